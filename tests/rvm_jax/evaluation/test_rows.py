"""Rows of the table of baselines: what they say of networks and runs, and the table that is drawn of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rvm_jax.cli.main import main
from rvm_jax.errors import InputError
from rvm_jax.evaluation import baseline_table, rows, scoreboard
from rvm_jax.weights import provenance
from rvm_jax.weights.files import read_weights, write_weights
from rvm_jax.weights.names import digest
from rvm_jax.weights.provenance import Provenance, TrainingSet
from tests.rvm_jax.evaluation.testsets import write_clip

DOCS = Path(__file__).parents[3] / "docs"
TOLD = Provenance(
    (TrainingSet("people", "1.0.0", "CC0-1.0", "https://example.org", "yes", ""),), "clean", "random weights"
)


def make_run(folder: Path, network: str, seed: int, mends: float = 0.0) -> Path:
    """A run's folder, with the files that a row is made of."""
    weights = read_weights(network)
    weights.variables["params"]["project_mat"]["bias"] += mends
    write_weights(weights, folder / "weights", provenance=TOLD)
    (folder / "checkpoints").mkdir()
    recipe = {"variant": "tiny", "seed": seed, "precision": "bfloat16"}
    identity = {"recipe": recipe, "iterations": {"1": 2, "2": 1, "3": 0}, "data": {"people": "abcdef0123456789"}}
    (folder / "recipe.json").write_text(json.dumps(identity))
    stages = enumerate((1, 1, 2))
    lines = [{"iteration": n, "stage": stage, "frames_per_second": 10.0 * (n + 1)} for n, stage in stages]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    session = {"devices": "8 × TPU", "revision": "0123456789abcdef-dirty"}
    (folder / "sessions.jsonl").write_text(json.dumps(session) + "\n")
    (folder / "time_spent.json").write_text(json.dumps([{"compute": 3600.0, "data": 1800.0}]))
    (folder / "wandb_url").write_text("https://wandb.example/run\n")
    return folder


def test_a_row_tells_what_was_trained_and_what_it_scores(network, testset, tmp_path, capsys):
    folders = [str(make_run(tmp_path / f"seed{seed}", network, seed, mends)) for seed, mends in ((0, 0.0), (1, 0.1))]
    path, out = tmp_path / "row.json", tmp_path / "out"
    words = [*folders, "--out", str(out), "--skip-speed", "--row", str(path)]
    assert main(["evaluate", str(testset), *words]) == 0
    row = rows.read(path)
    assert [run.seed for run in row.runs] == [0, 1]
    assert [run.sum for run in row.runs] == [digest(read_weights(folder).variables) for folder in folders]
    run = row.runs[0]
    assert (run.stage, run.iterations, run.hardware, run.hours) == ("2 of 2", 3, "8 × TPU", 1.5)
    assert (run.frames_per_second, run.precision, run.commit) == (20.0, "bfloat16", "0123456789abcdef-dirty")
    assert run.wandb == "https://wandb.example/run"
    assert row.data == (rows.PreparedSet(*TOLD.data[0].__dict__.values(), fingerprint="abcdef0123456789"),)
    assert (row.recipe_name, row.recipe) == ("clean", {"variant": "tiny", "precision": "bfloat16"})
    means = json.loads((out / "results.json").read_text())["means"]
    assert [one.dataset for one in row.testsets] == ["aim_motion", "aim_static", "aim"]
    for one in row.testsets:
        found = [means[one.dataset][name] for name in ("seed0", "seed1")]
        assert one.scores["mad"] == pytest.approx([each["mad"] for each in found], abs=1e-4)
        assert set(one.scores) == set(found[0])

    write_clip(tmp_path / "other" / "vm_static" / "0000", 7)
    assert main(["evaluate", str(tmp_path / "other"), *words]) == 0
    assert main(["evaluate", str(testset), *words]) == 0  # what is there is not there twice
    assert [one.dataset for one in rows.read(path).testsets] == ["vm_static", "aim_motion", "aim_static", "aim"]

    capsys.readouterr()
    assert main(["table", str(path)]) == 0
    told = capsys.readouterr().out
    mean, deviation = rows.mean_and_deviation(row.testsets[2].scores["mad"])
    assert f"| row | {mean:.2f} ± {deviation:.2f} |" in told
    assert "| clean | 2 of 2 | 3 | 0, 1 | 8 × TPU | 1.50 ± 0.00 | 20.0 ± 0.0 | bfloat16 | 01234567-dirty |" in told
    assert "| row | people | 1.0.0 | [CC0-1.0](https://example.org) | yes | abcdef01 |" in told


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([6.0, 7.0], (6.5, pytest.approx(0.5**0.5))),
        ([6.0], (6.0, None)),
        ([None, 6.0, float("nan")], (6.0, None)),
        ([None, float("nan")], None),
    ],
)
def test_the_deviation_is_that_of_a_sample_of_what_is_known(values, expected):
    assert rows.mean_and_deviation(values) == expected


def test_published_figures_stand_beside_those_of_the_same_size():
    scores = rows.SetScores("vm", "512×288", 2, False, {}, {"mad": [5.0], "mse": [1.0]})
    record = rows.RunRecord("ours", "0" * 64)
    row = rows.ResultRow("ours", "a network", (record,), None, None, None, (scores,), {})
    drawn = baseline_table.draw([row])
    assert "### vm, 512×288, 2 clips\n" in drawn
    assert "| ours | 5.00 | 1.00 |" in drawn
    assert "| RVM (published) | 6.08 | 1.47 |" in drawn
    assert "| VideoMatte, 1920×1080 | RVM, ResNet-50 | 5.81 | 0.97 | 9.65 | – | 1.78 | – |" in drawn
    ours = replace(row, testsets=(replace(scores, made_here=True),))
    assert "| RVM (published, other composites) | 6.08 | 1.47 |" in baseline_table.draw_scores([ours])


def test_what_was_run_otherwise_stands_in_a_table_of_its_own():
    plain = rows.SetScores("vm", "64×48", 2, True, {"downsample_ratio": None, "precision": "float32"}, {"mad": [5.0]})
    other = replace(plain, settings={"downsample_ratio": 0.25, "precision": "bfloat16"}, scores={"mad": [7.0]})
    row = rows.ResultRow("ours", "a network", (), None, None, None, (plain, other), {})
    assert [line for line in baseline_table.draw_scores([row]).splitlines() if line.startswith(("#", "| ours"))] == [
        "### vm, 64×48, 2 clips",
        "| ours | 5.00 |",
        "### vm, 64×48, 2 clips, at 0.25, in bfloat16",
        "| ours | 7.00 |",
    ]


def test_the_table_takes_its_place_in_a_page(tmp_path, capsys):
    (tmp_path / "page.md").write_text(f"before\n{baseline_table.BEGIN}\nold\n{baseline_table.END}\nafter\n")
    row = rows.ResultRow("ours", "a network", (rows.RunRecord("ours", "0" * 64),), None, None, None, (), {})
    rows.write(row, tmp_path / "row.json")
    for _ in range(2):
        assert main(["table", str(tmp_path / "row.json"), "--into", str(tmp_path / "page.md")]) == 0
        page = (tmp_path / "page.md").read_text()
        assert page.startswith(f"before\n{baseline_table.BEGIN}\n")
        assert page.endswith(f"{baseline_table.END}\nafter\n")
        assert page.count("| row | a network |") == 1
        assert "old" not in page
    (tmp_path / "page.md").write_text("no marks")
    capsys.readouterr()
    assert main(["table", str(tmp_path / "row.json"), "--into", str(tmp_path / "page.md")]) == 2
    assert "page.md has no place for the table: expected the lines <!-- rvm table: begin -->" in capsys.readouterr().err
    assert main(["table", str(tmp_path / "row.json"), "--into", str(tmp_path / "none.md")]) == 2
    assert "none.md cannot be read: No such file or directory; expected a page with" in capsys.readouterr().err


def test_the_table_in_the_docs_is_that_of_the_rows_there():
    page = (DOCS / "baselines.md").read_text()
    between = page.partition(f"{baseline_table.BEGIN}\n\n")[2].partition(f"\n{baseline_table.END}")[0]
    assert between == baseline_table.draw([rows.read(path) for path in sorted((DOCS / "rows").glob("*.json"))])


@pytest.mark.parametrize(
    "fault",
    ["other network", "other recipe", "same weights", "predictions", "other weights", "no row", "below a file"],
)
def test_what_is_no_row_is_refused_before_anything_is_scored(network, testset, tmp_path, capsys, fault):
    path, out = tmp_path / "row.json", tmp_path / "out"
    given = [str(make_run(tmp_path / "one", network, 0))]
    message = "rvm: --row is for one network, or for runs of one recipe that differ in their seed, and one and "
    match fault:
        case "other network":
            given.append(f"other={network}")
            message += "other are not: write a row of each"
        case "other recipe":
            given.append(str(make_run(tmp_path / "two", network, 0)))
            about = (tmp_path / "two" / "recipe.json").read_text()
            (tmp_path / "two" / "recipe.json").write_text(about.replace("bfloat16", "float32"))
            message += "two are not"
        case "same weights":
            given.append(str(make_run(tmp_path / "two", network, 1)))
            message = "rvm: --row takes each run once, and two of these hold the same weights: leave one out"
        case "predictions":
            given.append(f"theirs={shutil.copytree(testset, tmp_path / 'theirs')}")
            message = "rvm: --row tells of networks, not of predictions: leave those out"
        case "other weights":
            row = rows.ResultRow("x", "x", (rows.RunRecord("x", "0" * 64),), None, None, None, (), {})
            rows.write(row, path)
            message = f"rvm: {path} is the row of other weights: give another name, or delete it"
        case "no row":
            path.write_text("{}")
            message = f"rvm: {path} is no row ('runs'): give a file that `rvm evaluate --row` wrote"
        case "below a file":
            path.touch()
            path, message = path / "row.json", f"rvm: cannot write {path / 'row.json'}: {path} is a file, not a folder"
    assert main(["evaluate", str(testset), *given, "--out", str(out), "--skip-speed", "--row", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_row_that_is_not_there_is_told_in_words(tmp_path, capsys):
    assert main(["table", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err == (
        f"rvm: {tmp_path}/none.json cannot be read: No such file or directory; "
        "give a file that `rvm evaluate --row` wrote\n"
    )


@pytest.mark.parametrize(
    ("keys", "value", "told"),
    [
        (("runs",), [], "it has not one value of each score for each run"),
        (("runs", 0, "hours"), "long", "its hours is 'long'"),
        (("runs", 0, "surprise"), 1, "unexpected keyword argument 'surprise'"),
        (("data", 0), {"dataset": "people"}, "missing 5 required positional arguments: 'version', 'licence', "),
        (("testsets", 0, "clips"), "two", "its clips is 'two'"),
        (("testsets", 0, "scores"), ["mad"], "its scores is ['mad']"),
        (("testsets", 0, "scores", "mad"), "555", "its scores is {'mad': '555'}"),
        (("testsets", 0, "scores", "mad"), [None], "its scores is {'mad': [None]}"),
        (("testsets", 0, "scores", "mad"), [1.0, 2.0], "it has not one value of each score for each run"),
        (("network",), None, "its network is None"),
    ],
    ids=lambda value: "_".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_row_that_somebody_wrote_wrongly_is_told_in_a_line(tmp_path, capsys, keys, value, told):
    scores = rows.SetScores("vm", "64×48", 2, False, {}, {"mad": [5]})
    data = (rows.PreparedSet(*TOLD.data[0].__dict__.values()),)
    row = rows.ResultRow("x", "a network", (rows.RunRecord("x", "0" * 64),), data, None, None, (scores,), {})
    path = tmp_path / "mine.json"
    assert rows.write(row, path) == rows.read(path) == replace(row, name="mine")
    found = json.loads(path.read_text())
    part = found
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path.write_text(json.dumps(found))
    assert main(["table", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rvm: {path} is no row (")
    assert told in error
    assert error.endswith("): give a file that `rvm evaluate --row` wrote\n")
    assert error.count("\n") == 1


def test_a_row_is_called_as_its_file_and_the_table_takes_no_name_twice(tmp_path, capsys):
    row = rows.ResultRow("x", "a network", (rows.RunRecord("x", "0" * 64),), None, None, None, (), {})
    rows.write(row, tmp_path / "old.json")
    renamed, other = tmp_path / "new.json", tmp_path / "elsewhere" / "new.json"
    (tmp_path / "old.json").rename(renamed)
    rows.write(row, other)
    assert main(["table", str(renamed)]) == 0
    assert "| new | a network |" in capsys.readouterr().out
    assert main(["table", str(renamed), str(other)]) == 2
    assert capsys.readouterr().err == (
        f"rvm: two rows would be called new ({renamed}, {other}): leave one out, or rename it\n"
    )


def test_scores_of_other_settings_stay_in_the_file_and_those_of_the_same_go(tmp_path):
    def scored(ratio: float, mad: float) -> rows.ResultRow:
        testset = rows.SetScores("aim", "64×48", 2, True, {"downsample_ratio": ratio}, {"mad": [mad]})
        return rows.ResultRow("x", "a network", (rows.RunRecord("x", "0" * 64),), None, None, None, (testset,), {})

    path = tmp_path / "row.json"
    for ratio, mad in ((1.0, 6.0), (0.25, 9.0), (1.0, 7.0)):
        rows.write(scored(ratio, mad), path)
    assert [one.scores["mad"] for one in rows.read(path).testsets] == [[9.0], [7.0]]


def test_runs_of_one_recipe_that_are_other_networks_have_no_row_together():
    of_recipe = SimpleNamespace(recipe={"variant": "tiny"}, fingerprints={}, facts={})
    mattes = {"a": SimpleNamespace(name="tiny", variables={"params": np.zeros(3)}, provenance=None)}
    mattes["b"] = SimpleNamespace(name="tiny", variables={"params": np.zeros(4)}, provenance=None)
    with pytest.raises(InputError, match="a and b are not: write a row of each"):
        rows.of_networks(mattes, dict.fromkeys(mattes, of_recipe))


def test_a_file_that_is_no_text_is_no_row(tmp_path, capsys):
    (tmp_path / "row.json").write_bytes(b"\xff\xfe{}")
    assert main(["table", str(tmp_path / "row.json")]) == 2
    assert capsys.readouterr().err.startswith(f"rvm: {tmp_path}/row.json is no row ('utf-8' codec")


def test_what_is_in_a_cell_does_not_end_it():
    (_, _, line) = scoreboard.markdown([["a", "b"], ["me | you", "two\nlines"]]).splitlines()
    assert line == "| me \\| you | two lines |"


def test_the_sum_is_that_of_the_numbers_and_not_of_the_file(network, tmp_path):
    sums = set()
    for name in ("a.pth", "b.safetensors", "c"):
        write_weights(read_weights(network), tmp_path / name)
        sums.add(digest(read_weights(tmp_path / name).variables))
    assert len(sums) == 1
    assert provenance.read(tmp_path / "c") is None
    changed = read_weights(network)
    changed.variables["params"]["project_mat"]["bias"] = changed.variables["params"]["project_mat"]["bias"] + 1
    assert digest(changed.variables) not in sums
