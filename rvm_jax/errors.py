"""What is raised for the person at the keyboard: commands print it, and leave with its status."""

import signal


class InputError(ValueError):
    """Something that was given cannot be used.

    The message says what was given, what is expected and what to do, in one line (a list of names may follow). Commands
    print it and leave with status 2.
    """


class Stopped(Exception):  # noqa: N818 — it is no error
    """Something was told to stop, and has saved where it was. `status`: 128 + the signal, or as given."""

    def __init__(self, message: str, signal_number: int | None = None, status: int | None = None):
        super().__init__(message)
        self.status = 128 + (signal_number or signal.SIGTERM) if status is None else status
