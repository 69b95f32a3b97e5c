"""The window of a preview, a program of its own by Tk: draws the PPMs that come by standard input, until they end.

It first says what it is: `open`, and the width and height of the screen; or why there is no window.
"""

import queue
import signal
import sys
import threading

MILLISECONDS = 10
"""Between two looks for a new picture."""


def main() -> str:
    """Draw; returns why it cannot, or "" when all is drawn or the window was closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which then ends this
    try:
        import tkinter
    except ModuleNotFoundError:
        return "this Python has no Tk (on Debian and Ubuntu: apt install python3-tk; Homebrew: brew install python-tk)"
    try:
        root = tkinter.Tk()
    except tkinter.TclError as error:
        return str(error)
    root.title("rvm matte")
    shown = tkinter.Label(root, text="waiting for the first frame", borderwidth=0)
    shown.pack()
    print("open", root.winfo_screenwidth(), root.winfo_screenheight(), flush=True)
    pictures: queue.Queue[bytes] = queue.Queue(1)
    threading.Thread(target=read, args=(pictures,), daemon=True).start()
    drawn: list[tkinter.PhotoImage] = []  # the label by itself would not keep it

    def draw() -> None:
        while not pictures.empty():
            picture = pictures.get()
            if not picture:
                root.destroy()
                return
            drawn[:] = [tkinter.PhotoImage(data=picture, format="ppm")]
            shown.configure(image=drawn[0])
        root.after(MILLISECONDS, draw)

    draw()
    root.mainloop()
    return ""


def read(pictures: "queue.Queue[bytes]") -> None:
    """Take the pictures from standard input, whose header is a line; b"" is their end."""
    source = sys.stdin.buffer
    while header := source.readline():
        _, width, height, _ = header.split()
        pictures.put(header + source.read(3 * int(width) * int(height)))
    pictures.put(b"")


if __name__ == "__main__":
    if reason := main():
        print(" ".join(reason.split()))
