"""HTML, CSS and JavaScript of the page, whose script lets videos run side by side."""

from html import escape
from pathlib import Path
from urllib.parse import quote

from rvm_jax.serve.jobs import JobStatus

STYLE = """
:root { --font: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.gradio-container { max-width: 1240px !important; margin: 0 auto !important; }
.rvm-head, .rvm-hint, #shown, #status { padding: 0 !important; }
.rvm-head .html-container, .rvm-hint .html-container, #shown .html-container, #status .html-container { padding: 0; }
.rvm-head h1 { font-size: 26px; margin: 8px 0 2px; }
.rvm-head p, .rvm-hint p { margin: 0; color: var(--neutral-500) !important; }
footer .divider { display: none !important; }
.rvm-status { padding: 10px 14px; border-radius: 8px; background: var(--background-fill-secondary); font-size: 15px; }
.rvm-status p { margin: 0; overflow-wrap: anywhere; }
.rvm-status.failed { background: #fdecea; color: #8a1c12; }
.dark .rvm-status.failed { background: #4a1712; color: #ffd9d4; }
.rvm-bar { height: 8px; margin: 2px 0 8px; border-radius: 4px; background: var(--border-color-primary); }
.rvm-bar i { display: block; height: 100%; border-radius: 4px; background: var(--primary-500); transition: width .3s; }
.rvm-compare { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 280px), 1fr)); gap: 12px; }
.rvm-compare figure { margin: 0; min-width: 0; }
.rvm-compare figcaption { margin-bottom: 4px; font-size: 13px; color: var(--neutral-500); }
.rvm-compare img, .rvm-compare video { display: block; width: 100%; max-height: 70vh; object-fit: contain;
  border-radius: 8px; background: #0001; }
.rvm-alpha { display: inline-flex; gap: 6px; align-items: center; margin: 10px 0 0; font-size: 14px; }
.rvm-compare .alpha, .rvm-both:has(input:checked) .matte { display: none; }
.rvm-both:has(input:checked) .alpha { display: block; }
.rvm-empty { display: grid; place-items: center; min-height: 260px; border: 1px dashed var(--border-color-primary);
  border-radius: 8px; color: var(--neutral-500); text-align: center; padding: 20px; }
"""

SCRIPT = """<script>
// What is done to one of the videos side by side is done to the others. Each begins where its `data-from` says.
for (const event of ["play", "pause", "seeked"])
  document.addEventListener(event, ({target}) => {
    const both = target.closest && target.closest(".rvm-both");
    if (!both || both.dataset.busy) return;
    both.dataset.busy = 1;
    setTimeout(() => delete both.dataset.busy, 200);
    const time = target.currentTime - Number(target.dataset.from);
    for (const video of both.querySelectorAll("video")) {
      if (video === target) continue;
      const there = time + Number(video.dataset.from);
      if (Math.abs(video.currentTime - there) > 0.05) video.currentTime = there;
      if (event === "play") video.play().catch(() => {}); else if (event === "pause") video.pause();
    }
  }, true);
</script>"""

HEAD = """<h1>Cut people out of a video</h1>
<p>Drop a video or a picture, choose a background, look at the first frame, and let it run.</p>"""

NO_BACKGROUND = '<div class="rvm-empty">Now drop a picture or a video to put behind.</div>'
EMPTY = '<div class="rvm-empty">The first frame is shown here, a few seconds after a video is dropped.</div>'


def status(job: JobStatus) -> str:
    """How far a job is."""
    if job.state == "waiting":
        others = f"{job.before} before yours" if job.before else "yours is next"
        return _status(f"Waiting: {others}", 0)
    if job.state == "running":
        if not job.done:  # programs are compiled, or it is only the first frame
            return _status("Getting ready …", 0)
        words = [f"{job.done} frames"]
        if job.expected is not None:
            words = [f"{job.done} of {max(job.done, job.expected)} frames"]
        if job.fps is not None:
            words.append(f"{job.fps:.1f} fps")
        if job.left is not None:
            words.append(f"{_clock(job.left)} left")
        return _status(" · ".join(words), job.done / max(1, job.done, job.expected or 0))
    if job.state == "failed":
        return failed(job.message)
    if job.state == "cancelled":
        return _status("Cancelled. Nothing of it is kept.")
    return _status(f"Done: {job.done} frame{'' if job.done == 1 else 's'}. {job.message}".strip())


def failed(message: str) -> str:
    return f'<div class="rvm-status failed" role="alert"><p>{escape(message)}</p></div>'


def compare(source: Path, files: dict[str, Path], start: float) -> str:
    """The original and the matte side by side, with a switch that shows alpha in its place."""
    matte, alpha = files["view"], files["alpha"]
    what = "First frame, matted" if matte.suffix == ".png" else "Matted"
    return (
        '<div class="rvm-both"><div class="rvm-compare">'
        f"<figure><figcaption>Original</figcaption>{_media(source, 'original', start)}</figure>"
        f"<figure><figcaption>{what}</figcaption>{_media(matte, 'matte')}{_media(alpha, 'alpha')}</figure>"
        '</div><label class="rvm-alpha"><input type="checkbox"> Alpha: white is kept, black is cut away</label></div>'
    )


def address(path: Path) -> str:
    """Where the page finds a file of the private folder."""
    return f"gradio_api/file={quote(str(path))}"


def _media(path: Path, name: str, start: float = 0) -> str:
    if path.suffix in (".bmp", ".jpeg", ".jpg", ".png", ".webp"):
        return f'<img class="{name}" alt="{name}" src="{address(path)}">'
    moment = f"#t={start:g}" if start else ""
    return (
        f'<video class="{name}" data-from="{start:g}" controls loop muted playsinline preload="auto" '
        f'src="{address(path)}{moment}"></video>'
    )


def _status(text: str, share: float | None = None) -> str:
    bar = "" if share is None else f'<div class="rvm-bar"><i style="width: {100 * share:.0f}%"></i></div>'
    return f'<div class="rvm-status" role="status">{bar}<p>{escape(text)}</p></div>'


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
