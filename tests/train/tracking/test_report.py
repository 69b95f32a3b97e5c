"""The page of a run: true curves, the right pictures, and nothing from elsewhere."""

import base64
import json
from html.parser import HTMLParser

import numpy as np
import pytest

from rvm_jax.errors import InputError
from train.tracking import metrics_file, report

START = "2030-01-01T00:00:00+00:00"
SECONDS = 1893456000  # of that


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "<run> & co"
    folder.mkdir()
    stages = {"1": {"frames": 15, "rates": {"encoder": 1e-4}}, "2": {"frames": 50, "rates": {"encoder": 5e-5}}}
    recipe = {"variant": "tiny", "stages": stages, "backgrounds": ["a", "b"], "init": None}
    (folder / "recipe.json").write_text(json.dumps({"recipe": recipe, "iterations": {"1": 1000, "2": 500}}))
    session = {"started": START, "devices": "1 × <cpu>", "hosts": 1, "versions": {"jax": "0.10"}, "iteration": 0}
    (folder / "sessions.jsonl").write_text(json.dumps(session) + "\n")
    return folder


def record(folder, iterations, validations=()):
    """Two passes of two stages, ten seconds an iteration; the n-th validation has the picture `png n`."""
    (folder / "validation").mkdir()
    lines = []
    for i in range(iterations + 1):
        now = SECONDS + 10 * i
        if i in validations:
            (folder / "validation" / f"{i}.png").write_bytes(b"png %d" % i)
            lines.append({"iteration": i, "validation/mad": 0.5 / (i + 1), "time": now})
        if i < iterations:
            losses = {
                "matting_low/alpha_l1": 0.1,
                "matting_low/total": 1 / (i + 1),
                "matting_low/gradient_norm/aspp": 3.0,
            }
            stage = 1 if i < iterations / 2 else 2
            lines.append(
                {"iteration": i, "stage": stage, **losses, "learning_rate/<x>": 0.1, "data_wait": 0.0, "time": now + 10}
            )
    (folder / "metrics.jsonl").write_bytes(b"".join(map(metrics_file.encode, lines)))


class Page(HTMLParser):
    """The page's words, and what it loads; fails if elements are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loaded, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href")]
        assert tag not in ("script", "link")

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_a_run_has_its_page(folder):
    record(folder, 1500, validations=(0, 700, 1500))
    path = report.write(folder)
    assert path == folder / "report.html"
    text = path.read_text()
    page = Page(text)
    words = " ".join(page.words)
    for said in (
        "<run> & co",
        "begun 01 January 2030, 00:00 UTC",
        "1,500 of 1,500",
        "4:10:00",
        "1 × <cpu>",
        "0.5 → 3.33e-4",
        "3.33e-4 at 1,500",
        "Matting, low resolution",
        "Learning rates",
        "rates.encoder 0.0001 5e-05",
        "backgrounds a, b",
    ):
        assert said in words, said
    assert words.index("total") < words.index("alpha L1")
    assert "http" not in text
    assert [base64.b64decode(loaded.removeprefix("data:image/png;base64,")) for loaded in page.loaded] == [
        b"png 0",
        b"png 1500",
    ]
    assert len(text) < 100_000


def test_what_a_run_was_before_a_change_is_told(folder):
    record(folder, 10)
    assert "before" not in report.write(folder).read_text()
    about = json.loads((folder / "recipe.json").read_text())
    about["changes"] = [{"iteration": 7, "before": {"stages.2.frames": 40, "backgrounds": ["c"]}}]
    (folder / "recipe.json").write_text(json.dumps(about))
    words = " ".join(" ".join(Page(report.write(folder).read_text()).words).split())
    assert "What it was before until iteration 7: stages.2.frames 40 until iteration 7: backgrounds c" in words


def test_a_short_run_has_a_page(folder):
    record(folder, 1)
    words = " ".join(Page(report.write(folder).read_text()).words)
    assert "1 of 1,500" in words
    assert "MAD" not in words


def test_a_run_that_did_nothing_has_a_page(folder):
    record(folder, 0, validations=(0,))
    page = Page(report.write(folder).read_text())
    assert "0 of 1,500" in " ".join(page.words)
    assert len(page.loaded) == 1


def test_a_run_whose_session_could_not_be_written_has_a_page(folder):
    record(folder, 3)
    for text in ('{"started": "20', None):
        path = folder / "sessions.jsonl"
        path.unlink() if text is None else path.write_text(text)
        words = " ".join(Page(report.write(folder).read_text()).words)
        assert "A training run of rvm-jax. " in words
        assert "3 of 1,500" in words
        assert "Provenance" not in words


def test_a_report_needs_a_run(tmp_path):
    with pytest.raises(InputError, match=r"there is no .*metrics\.jsonl: a report is made of a run"):
        report.write(tmp_path)


def test_stages_begin_where_their_number_changes(folder):
    record(folder, 10)
    assert report.beginnings(report.read(folder / "metrics.jsonl")) == {0: "stage 1", 5: "stage 2"}


def test_time_is_spent_while_a_session_lasts():
    times = np.array([110.0, 120, 130, 1010, 1020])
    assert report.seconds_spent(times, np.array([100.0, 1000])) == 50
    assert report.seconds_spent(times, np.array([100.0])) == 920
    assert report.seconds_spent(np.array([]), np.array([100.0])) == 0
