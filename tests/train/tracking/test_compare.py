"""The page of several runs: whose curves are whose, what differs, and what they came to."""

import json
import shutil

import pytest

from rvm_jax.cli.main import main
from rvm_jax.errors import InputError
from rvm_jax.host import buckets
from tests import fake_bucket
from tests.train.tracking.test_report import Page
from train.tracking import compare, metrics_file

bucket = fake_bucket.bucket


@pytest.fixture
def runs(tmp_path):
    """Two of them: the second has another seed and another rate, is twice as long, and has no segmentation."""
    for number, name in enumerate(("first", "second")):
        folder = tmp_path / name
        (folder / "validation").mkdir(parents=True)
        recipe = {"variant": "tiny", "seed": number, "stages": {"1": {"rates": {"aspp": [1e-3, 2e-3][number]}}}}
        about = {"recipe": recipe, "iterations": {"1": 20}, "data": {"clips": "ab"}}
        (folder / "recipe.json").write_text(json.dumps(about))
        lines = [{"iteration": 0, "validation/mad": 0.5 - number / 4}]
        lines += [
            {"iteration": i, "stage": 1, "matting_low/total": 1 / (i + 1), "segmentation_video/total": 0.25}
            for i in range(5 * (number + 1))
        ]
        lines = [{key: value for key, value in line.items() if not (number and "video" in key)} for line in lines]
        (folder / "metrics.jsonl").write_bytes(b"".join(map(metrics_file.encode, lines)))
        (folder / "validation" / "0.png").write_bytes(b"png")
    return tmp_path / "first", tmp_path / "second"


def words(path):
    return " ".join(" ".join(Page(path.read_text()).words).split())


def test_curves_differences_and_figures(runs, tmp_path):
    said = words(compare.write(runs, tmp_path / "page.html"))
    for expected in (
        "first · second Training runs of rvm-jax, compared.",
        "Figures first second network tiny tiny iterations 5 of 20 10 of 20",
        "validation MAD 0.5 0.25",
        "What differs in the recipes first second seed 0 1 stages.1.rates.aspp 0.001 0.002 Mattes",
        "first iteration 0, MAD 0.5 second iteration 0, MAD 0.25 Validation",
        "first: 0.2 second: 0.1",
        "first: 0.25 second: –",
    ):
        assert expected in said, expected
    assert "stage " not in said
    text = (tmp_path / "page.html").read_text()
    only_first = text[text.index("Segmentation, clips") :]
    assert '<polyline class="c0"' in only_first
    assert "polyline" in text
    assert '<circle class="c1"' not in only_first  # its colour is unused where it has no number


def test_a_field_that_an_older_version_did_not_have_has_its_default(runs, tmp_path):
    path = runs[1] / "recipe.json"
    about = json.loads(path.read_text())
    about["recipe"] |= {"ema": None, "schedule": "constant", "weight_decay": 0.1}
    path.write_text(json.dumps(about))
    said = words(compare.write(runs, tmp_path / "page.html"))
    assert "weight decay 0.0 0.1" in said
    assert "schedule" not in said
    assert "ema" not in said.split()


def test_equal_recipes_differ_in_nothing(runs, tmp_path):
    shutil.copytree(runs[0], tmp_path / "other" / "first")
    said = words(compare.write([runs[0], tmp_path / "other" / "first"], tmp_path / "page.html"))
    assert "What differs in the recipes Nothing." in said
    assert f"{tmp_path.name}/first · other/first" in said  # names tell them apart


def test_the_command_writes_a_page(runs, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["train", "compare", *map(str, runs), "--out", str(page)]) == 0
    assert capsys.readouterr().out == f"wrote {page}\n"
    assert page.exists()


def test_what_is_no_run_is_refused(runs, tmp_path, capsys):
    assert main(["train", "compare", str(runs[0]), str(tmp_path), "--out", str(tmp_path / "page.html")]) == 2
    missing = f"rvm: there is no {tmp_path / 'metrics.jsonl'}: expected the folders of runs, or their URLs\n"
    assert capsys.readouterr().err == missing
    for given, why in ((runs[:1], "1 given: expected 2 to 6 runs"), (runs[:1] * 2, "first is given twice")):
        with pytest.raises(InputError, match=why):
            compare.write(given, tmp_path / "page.html")
    (runs[1] / "metrics.jsonl").write_bytes(b"")
    with pytest.raises(InputError, match="second has recorded nothing yet"):
        compare.write(runs, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_report_of_a_run_is_not_replaced(runs):
    report = runs[0] / "report.html"
    report.write_text("the run's own")
    with pytest.raises(InputError, match="report of a run: give the page another name"):
        compare.write(runs, report)
    assert report.read_text() == "the run's own"


@pytest.mark.slow
def test_a_run_in_a_bucket_is_compared(runs, bucket, tmp_path):
    names = [path.relative_to(runs[1]).as_posix() for path in runs[1].rglob("*") if path.is_file()]
    buckets.upload(runs[1], f"{bucket}/second", names)
    said = words(compare.write([runs[0], f"{bucket}/second"], tmp_path / "page.html"))
    assert "first iteration 0, MAD 0.5 second iteration 0, MAD 0.25 Validation" in said
    with pytest.raises(InputError, match=f"there is no {bucket}/third/metrics.jsonl"):
        compare.write([runs[0], f"{bucket}/third"], tmp_path / "page.html")
