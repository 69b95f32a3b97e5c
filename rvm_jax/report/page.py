"""HTML reports in one file that needs nothing else: charts, pictures and tables."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

from rvm_jax.host.files import replacing
from rvm_jax.report.charts import COLOURS, Line, label

STYLE = """
:root { color-scheme: light dark; --back: #fbfbfa; --card: #fff; --line: #e2e2de; --text: #22252a; --soft: #6b7079;
  --c0: #2f6fde; --c1: #d9541e; --c2: #1d9a6c; --c3: #a24bd0; --c4: #c18a00; --c5: #d13a78; }
@media (prefers-color-scheme: dark) { :root { --back: #16181b; --card: #1e2125; --line: #34383e; --text: #e6e7e9;
  --soft: #9aa0a8; --c0: #6ea1ff; --c1: #ff8a5c; --c2: #4cc79a; --c3: #c98bf0; --c4: #e3b23c; --c5: #f27aa8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 24px 20px 60px; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 36px 0 12px; }
p { margin: 0 0 16px; }
.soft, figcaption { color: var(--soft); }
.cards { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.charts { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 370px), 1fr)); }
.mattes { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); }
.card, figure { margin: 0; min-width: 0; padding: 12px 14px; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
.card div { color: var(--soft); font-size: 13px; }
.card b { font-size: 17px; font-weight: 600; overflow-wrap: anywhere; }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 12px; font-size: 13px; }
figcaption b { color: var(--text); font-size: 14px; }
figure img { display: block; width: 100%; margin-top: 8px; border-radius: 4px; }
svg { display: block; width: 100%; height: auto; margin-top: 4px; }
svg polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
svg polyline.raw { stroke-width: 1; opacity: 0.28; }
svg .axis { stroke: var(--line); fill: none; }
svg .mark { stroke: var(--soft); stroke-dasharray: 3 4; fill: none; opacity: 0.7; }
svg .text { fill: var(--soft); font-size: 13px; }
.legend { display: flex; flex-wrap: wrap; gap: 0 14px; font-size: 13px; }
.legend i { display: inline-block; width: 14px; height: 3px; margin-right: 5px; vertical-align: middle; }
.wide { overflow-x: auto; margin-bottom: 20px; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 3px 18px 3px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; white-space: nowrap; }
td { overflow-wrap: anywhere; }
""" + "".join(
    f"svg polyline.c{n} {{ stroke: var(--c{n}); }} svg circle.c{n}, .legend i.c{n} {{ fill: var(--c{n}); "
    f"background: var(--c{n}); }}\n"
    for n in range(COLOURS)
)


def write(path: Path, title: str, body: Iterable[str]) -> None:
    """Write a page of these parts."""
    with replacing(path, overwrite=True) as partial:
        partial.write_text(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
            + "\n".join(body)
            + "\n</body></html>\n",
            encoding="utf-8",
        )


def section(title: str, figures: Sequence[str]) -> Iterator[str]:
    """Charts below a heading; nothing if there are none."""
    if figures:
        yield f'<h2>{escape(title)}</h2>\n<div class="charts">{"".join(figures)}</div>'


def figure(title: str, drawing: str, lines: Sequence[Line]) -> str:
    """A chart of these lines, with the last value of a single one, or the names of several."""
    if len(lines) == 1:
        side, legend = f"<span>last {label(lines[0].y[-1])}</span>", ""
    else:
        names = [f'<span><i class="c{n % COLOURS}"></i>{escape(line.name)}</span>' for n, line in enumerate(lines)]
        side, legend = "", f'<div class="legend">{"".join(names)}</div>'
    return f"<figure><figcaption><b>{title}</b>{side}</figcaption>{drawing}{legend}</figure>"


def picture(caption: str, png: bytes, side: str = "") -> str:
    """A PNG with a caption."""
    data = base64.b64encode(png).decode()
    return (
        f"<figure><figcaption><b>{escape(caption)}</b><span>{escape(side)}</span></figcaption>"
        f'<img alt="{escape(caption)}" src="data:image/png;base64,{data}"></figure>'
    )


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows of text; the first of each is its name."""
    lines = [f"<th>{escape(name)}</th>" + "".join(f"<td>{escape(text)}</td>" for text in rest) for name, *rest in rows]
    return f'<div class="wide"><table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'
