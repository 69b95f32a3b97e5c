"""Methods against a test set on disk: what is scored, kept, refused and shown."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from rvm_jax.cli.main import main
from rvm_jax.errors import InputError
from rvm_jax.evaluation import evaluate, layout, metrics, scoreboard, scoring, speed
from rvm_jax.evaluation.evaluate import Method, Settings
from tests.rvm_jax import videos
from tests.rvm_jax.conftest import write_tiny

FRAMES = 11


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> str:
    return str(write_tiny(tmp_path_factory.mktemp("weights")))


def write_clip(folder: Path, seed: int, frames: int = FRAMES, height: int = 32, width: int = 48) -> None:
    rng = np.random.default_rng(seed)
    people = videos.moving(frames, height, width)
    alpha = ((people[..., :1] > 100) * rng.integers(100, 256, people[..., :1].shape)).astype(np.uint8)
    background = np.broadcast_to(rng.integers(0, 256, (1, height, width, 3), np.uint8), people.shape)
    share = alpha / 255
    layers = {
        "com": np.rint(people * share + background * (1 - share)).astype(np.uint8),
        "pha": alpha[..., 0],
        "fgr": people,
    }
    for kind, pictures in layers.items():
        (folder / kind).mkdir(parents=True)
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / kind / f"{number:04d}.png")


@pytest.fixture
def testset(tmp_path) -> Path:
    folder = tmp_path / "set"
    for number, name in enumerate(("aim_static/0000", "aim_static/0001", "aim_motion/0000")):
        write_clip(folder / name, number)
    return folder


def run(one: Method, testset: Path, out: Path, **settings) -> list[evaluate.Scored]:
    return list(evaluate.evaluate(layout.find(testset), one, out, Settings(**settings)))


def stack(folder: Path, channels: int) -> np.ndarray:
    pictures = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    return (np.stack(pictures).reshape(len(pictures), *pictures[0].shape[:2], channels) / 255).astype(np.float32)


def test_a_network_has_the_scores_of_its_predictions(matte, testset, tmp_path):
    scored = run(Method("ours", matte=matte), testset, tmp_path / "out")
    assert [(one.dataset, one.clip) for one in scored] == [
        ("aim_motion", "0000"),
        ("aim_static", "0000"),
        ("aim_static", "0001"),
    ]
    for one in scored:
        folder = testset / one.dataset / one.clip
        com, pha, fgr = stack(folder / "com", 3), stack(folder / "pha", 1), stack(folder / "fgr", 3)
        state, alphas, colors = None, [], []
        for frame in com:
            foreground, alpha, state = matte(frame, state)
            alphas.append(alpha)
            colors.append(foreground)
        alpha, foreground = np.stack(alphas), np.stack(colors)
        expected = {
            "mad": metrics.mad(alpha, pha),
            "mse": metrics.mse(alpha, pha),
            "grad": metrics.gradient(alpha, pha),
            "conn": metrics.connectivity(alpha, pha),
            "dtssd": metrics.dtssd(alpha, pha),
            "fgr_mad": metrics.foreground_mad(foreground, fgr, pha),
            "fgr_mse": metrics.foreground_mse(foreground, fgr, pha),
        }
        assert list(one.scores) == list(scoring.METRICS)
        for name, values in expected.items():
            np.testing.assert_allclose(one.scores[name], values, rtol=2e-3, atol=1e-4, err_msg=name)


def test_what_was_predicted_scores_as_it_did_within_rounding(matte, testset, tmp_path):
    ours = run(Method("ours", matte=matte), testset, tmp_path / "a", save_predictions=tmp_path / "predictions")
    theirs = run(Method("theirs", predictions=tmp_path / "predictions" / "ours"), testset, tmp_path / "b")
    for one, other in zip(ours, theirs, strict=True):
        for name, values in one.scores.items():
            # Half a level of 255 moves MAD by 2 thousandths at most.
            np.testing.assert_allclose(other.scores[name], values, rtol=0.03, atol=0.25, err_msg=name)
        assert np.abs(np.subtract(one.scores["mad"], other.scores["mad"])).max() < 2
    assert any(one.scores["mse"] != other.scores["mse"] for one, other in zip(ours, theirs, strict=True))


def test_a_perfect_method_has_no_error(testset, tmp_path):
    for scored in run(Method("truth", predictions=testset), testset, tmp_path / "out"):
        assert all(set(values) == {0.0} for values in scored.scores.values())


def test_without_memory_every_frame_is_the_first(matte, testset, tmp_path):
    with_memory = run(Method("a", matte=matte), testset, tmp_path / "out")
    without = run(Method("b", matte=matte, remembers=False), testset, tmp_path / "out")
    for one, other in zip(with_memory, without, strict=True):
        assert one.scores["mad"][0] == pytest.approx(other.scores["mad"][0], rel=1e-3)
        assert one.scores["mad"][5] != pytest.approx(other.scores["mad"][5], rel=1e-3)


def test_high_resolution_is_scored_as_published(matte, testset, tmp_path):
    usual, high = (
        run(Method("ours", matte=matte), testset, tmp_path / name, high_resolution=name == "high")
        for name in ("usual", "high")
    )
    assert "conn" not in high[0].scores
    assert high[0].scores["grad"] != usual[0].scores["grad"]
    assert high[0].scores["mad"] == usual[0].scores["mad"]


def test_nothing_is_scored_twice_unless_a_file_has_changed(matte, testset, tmp_path):
    one, out = Method("ours", matte=matte), tmp_path / "out"

    def score() -> tuple[list[evaluate.Scored], list[int]]:
        told: list[int] = []
        return list(evaluate.evaluate(layout.find(testset), one, out, Settings(), told.append)), told

    first, told = score()
    assert told == [8, 3] * 3
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    again, told = score()
    assert told == [FRAMES] * 3  # all at once, for they are done
    assert [one.scores for one in again] == [one.scores for one in first]
    Image.fromarray(np.zeros((32, 48), np.uint8)).save(testset / "aim_static" / "0001" / "pha" / "0000.png")
    changed, told = score()
    assert told == [FRAMES, FRAMES, 8, 3]
    assert changed[2].scores != first[2].scores
    assert sum(path.stat().st_mtime_ns != stamps[path] for path in stamps) == 1


def test_frames_go_in_the_order_of_their_numbers(testset, tmp_path):
    for kind in ("com", "pha", "fgr"):
        folder = testset / "aim_static" / "0000" / kind
        for path in folder.iterdir():
            path.rename(path.with_name(f"{int(path.stem) + 1}.png"))
    clip = next(clip for clip in layout.find(testset) if clip.label == "aim_static/0000")
    for frames in (clip.com, clip.pha, clip.fgr, layout.predicted(testset, clip)[0]):
        assert list(frames) == [str(number) for number in range(1, 12)]


def test_predictions_are_kept_where_they_are_asked_for(matte, testset, tmp_path):
    one, out, folder = Method("ours", matte=matte), tmp_path / "out", tmp_path / "predictions"

    def made(**settings) -> list[int]:
        """How many frames are predicted at a time; whole clips are those that were done."""
        told: list[int] = []
        list(evaluate.evaluate(layout.find(testset), one, out, Settings(**settings), told.append))
        return told

    assert made() == [8, 3] * 3
    assert made(save_predictions=folder) == [8, 3] * 3  # they are scored, but not there
    assert made(save_predictions=folder) == made() == [FRAMES] * 3
    (folder / "ours" / "aim_static" / "0000" / "fgr" / "0010.png").unlink()
    assert made() == [FRAMES] * 3
    assert made(save_predictions=folder) == [FRAMES, 8, 3, FRAMES]
    assert made(downsample_ratio=1.0) == [8, 3] * 3
    assert made(downsample_ratio=1.0, save_predictions=folder) == [8, 3] * 3  # those that are there have another ratio


def test_other_definitions_of_scores_are_scored_again(matte, testset, tmp_path, monkeypatch):
    for one in (Method("ours", matte=matte), Method("truth", predictions=testset)):
        before = evaluate._fingerprint(one, Settings())
        with monkeypatch.context() as patched:
            patched.setattr(scoring, "DEFINITIONS", scoring.DEFINITIONS + 1)
            assert evaluate._fingerprint(one, Settings()) != before


def test_numbers_that_are_not_finite_are_told_with_the_frame(matte, testset, tmp_path):
    params = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), matte.variables["params"])
    broken = Method("broken", matte=replace(matte, variables={**matte.variables, "params": params}))
    with pytest.raises(InputError, match=r"^broken predicts .* not finite in frame 0000 of aim_motion/0000: "):
        run(broken, testset, tmp_path / "out", save_predictions=tmp_path / "predictions")
    assert not list(tmp_path.rglob("out/**/*.json"))
    assert not (tmp_path / "predictions").exists()


@pytest.mark.parametrize("ratio", [0, -0.5, 1.5, float("nan")])
def test_a_ratio_that_is_none_is_refused(ratio):
    with pytest.raises(InputError, match=f"^a down-sampling ratio of {ratio:g}: expected more than 0, and at most 1$"):
        Settings(ratio)


def faulty(fault: str, testset: Path, predictions: Path) -> None:
    """Damage a test set, or predictions that are a copy of it."""
    clip, theirs = testset / "aim_static" / "0001", predictions / "aim_static" / "0001"
    match fault:
        case "truth is JPEG":
            Image.open(clip / "pha" / "0003.png").save(clip / "pha" / "0003.jpg")
            (clip / "pha" / "0003.png").unlink()
        case "truth is missing":
            (clip / "pha").rename(clip / "alpha")
        case "composite is missing":
            (clip / "com" / "0004.png").unlink()
        case "clip is missing":
            theirs.rename(theirs.with_name("0002"))
        case "folder is empty":
            for path in (theirs / "pha").iterdir():
                path.unlink()
        case "frames are missing":
            (theirs / "pha" / "0010.png").unlink()
        case "names differ":
            (theirs / "pha" / "0010.png").rename(theirs / "pha" / "0011.png")
        case "other size":
            for path in (theirs / "pha").iterdir():
                Image.open(path).resize((24, 16)).save(path)
        case "one of other size":
            Image.new("L", (40, 32)).save(theirs / "pha" / "0002.png")
        case "damaged":
            (theirs / "pha" / "0002.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("truth is JPEG", r"aim_static/0001 has its true alpha as JPEG \(0003.jpg\)"),
        ("truth is missing", "aim_static/0001 has no truth: expected pictures in .*aim_static/0001/pha"),
        ("composite is missing", r"aim_static/0001/com has 10 frames and .* 11: 1 missing \(0004\)"),
        ("clip is missing", "has no predictions of aim_static/0001"),
        ("folder is empty", "aim_static/0001 has no alpha"),
        ("frames are missing", r"aim_static/0001/pha has 10 frames and .*aim_static/0001 11: 1 missing \(0010\)"),
        ("names differ", r"1 missing \(0010\), 1 too many \(0011\)"),
        ("other size", "aim_static/0001/pha has 24×16 pixels, the truth 48×32"),
        ("one of other size", "0001.png has 48×32 pixels and .*0002.png has 40×32"),
        ("damaged", "aim_static/0001/pha/0002.png cannot be read as a picture"),
    ],
)
def test_what_is_wrong_is_told_with_the_clip(testset, tmp_path, fault, message):
    import shutil

    predictions = shutil.copytree(testset, tmp_path / "predictions")
    faulty(fault, testset, predictions)
    with pytest.raises(InputError, match=message) as caught:
        run(Method("theirs", predictions=predictions), testset, tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", ["nothing", "file", "flat"])
def test_what_is_no_test_set(tmp_path, layout):
    folder = tmp_path / "set"
    if layout != "nothing":
        (folder / "clip" if layout == "flat" else folder).mkdir(parents=True)
        (folder / "notes.txt").touch()
    message = "does not exist" if layout == "nothing" else "is no test set: expected"
    with pytest.raises(InputError, match=message):
        layout.find(folder)


def test_methods_are_told_apart(network, testset, tmp_path):
    clips = layout.find(testset)
    assert evaluate.method(network, clips).matte is not None
    assert evaluate.method(f"theirs={testset}", clips) == Method("theirs", predictions=testset)
    assert evaluate.method(str(testset), clips).name == "set"
    odd = tmp_path / "lr=1"
    odd.symlink_to(testset)
    assert evaluate.method(str(odd), clips) == Method("lr_1", predictions=odd)
    with pytest.raises(InputError, match="nowhere does not exist"):
        evaluate.method("a=nowhere", clips)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds neither predictions"):
        evaluate.method(str(tmp_path / "empty"), clips)


def test_published_figures_stand_beside_equal_sets():
    assert [name for name, _ in scoreboard.published("aim_motion", (512, 512))] == [
        "MODNet (published)",
        "BGMv2 (published)",
        "RVM (published)",
    ]
    for high_resolution in (False, True):  # Grad of large frames is without stretching, that of small ones with
        large = dict(scoreboard.published("d646", (2048, 2048), high_resolution=high_resolution))["RVM (published)"]
        small = dict(scoreboard.published("d646", (512, 512), high_resolution=high_resolution))["RVM (published)"]
        assert ("grad" in large, "grad" in small) == (high_resolution, not high_resolution)
    ours = dict(scoreboard.published("video_matte_240k_hd", (1080, 1920)))["RVM (published)"]
    assert ours == {"mad": 6.57, "mse": 1.93, "dtssd": 1.90}
    assert scoreboard.published("aim_motion", (288, 512)) == []
    assert scoreboard.published("synthetic", (512, 512)) == []


def test_multiply_adds_are_those_of_the_convolutions(matte):
    small, large = (speed.multiply_adds(matte, (64, width), 1.0) for width in (64, 128))
    kernels = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(matte.variables["params"])
    }
    # What sees the mean of a frame works as much for any size; all else twice as much for twice the pixels.
    constant = sum(
        leaf.size
        for name, leaf in kernels.items()
        if name.endswith("kernel") and ("gate_conv" in name or "squeeze_excite" in name)
    )
    assert large - constant == 2 * (small - constant)
    # At full size there are the last two convolutions of the decoder and the head.
    at_full_size = sum(kernels[f"{name}/kernel"].size for name in ("decoder/conv0", "decoder/conv0b", "project_mat"))
    assert 0.2 < at_full_size * 64 * 64 / small < 0.5


def test_the_command(network, testset, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["evaluate", str(testset), f"ours={network}", f"truth={testset}", "--out", str(out), "--skip-speed"]
    assert main([*arguments, "--without-memory"]) == 0
    told = capsys.readouterr().out
    assert "aim, 48×32, 3 clips\n" in told
    lines = told[told.index("aim, 48×32") :].splitlines()
    assert lines[1].split() == ["MAD", "MSE", "Grad", "Conn", "dtSSD", "FG", "MAD", "FG", "MSE"]
    assert lines[3].split() == ["truth", *["0.00"] * 7]
    assert lines[4].startswith("ours without memory")
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    results = json.loads((out / "results.json").read_text())
    mean = np.mean([float(row["mad"]) for row in rows if row["method"] == "ours"])
    assert results["means"]["aim"]["ours"]["mad"] == pytest.approx(mean)
    assert f"| ours | {mean:.2f} |" in (out / "results.md").read_text()
    with Image.open(out / "frames_ours.png") as sheet:
        assert sheet.width == 4 * 48
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "dtSSD of aim_static" in page


def test_published_figures_are_left_out_if_clips_have_several_sizes(tmp_path, capsys):
    for number, size in enumerate((512, 512, 256)):
        write_clip(tmp_path / "set" / "d646_static" / f"{number:04d}", number, frames=1, height=size, width=size)
    arguments = ["evaluate", str(tmp_path / "set"), f"truth={tmp_path / 'set'}", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "d646_static, several sizes, 3 clips\n" in told
    assert "(published)" not in told
    (tmp_path / "set" / "d646_static" / "0002").rename(tmp_path / "0002")
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "d646_static, 512×512, 2 clips\n" in told
    assert "RVM (published)" in told


@pytest.mark.slow
def test_the_command_with_speed_and_wandb(network, testset, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(speed, "SIZES", {"small": (32, 48, 1.0), "large": (64, 96, 0.5)})
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    timed, out = speed.frames_per_second, tmp_path / "out"

    def without_memory_for_large_ones(matte, size, ratio):
        assert (out / "results.md").exists()  # before anything is timed
        if size == (64, 96):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nand much more")
        return timed(matte, size, ratio)

    monkeypatch.setattr(speed, "frames_per_second", without_memory_for_large_ones)
    arguments = ["evaluate", str(testset), f"ours={network}", f"truth={testset}", "--out", str(out)]
    assert main([*arguments, "--without-memory", "--wandb", "offline"]) == 0
    told = capsys.readouterr()
    assert "rvm: ours at large cannot be timed: RESOURCE_EXHAUSTED: Out of memory\n" in told.err
    assert "W&B did not take it" not in told.err
    _, head, row, *more = told.out[told.out.index("Size and speed on cpu") :].splitlines()
    assert head.split() == ["parameters", "GMACs", "small", "frames/s", "small", "GMACs", "large", "frames/s", "large"]
    name, parameters, *_, small, _, large = row.split()
    assert (name, large) == ("ours", "–")
    assert int(parameters.replace(",", "")) == speed.parameters(evaluate.method(network, []).matte)
    assert float(small) > 0
    assert not any(line.startswith("ours") for line in more)  # without memory it is as fast
    assert "Size and speed" in (out / "results.md").read_text()
    assert "Size and speed" in (out / "report.html").read_text()
    assert list(out.glob("wandb/offline-run-*/*.wandb"))


def test_speed_is_frames_by_seconds(matte, monkeypatch):
    monkeypatch.setattr(speed, "SIZES", {"small": (32, 48, 1.0)})
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    measured = speed.measure(matte, "small")
    assert measured.multiply_adds == speed.multiply_adds(matte, (32, 48), 1.0)
    assert measured.frames_per_second > 0


@pytest.mark.parametrize("fault", ["frames are missing", "no composites"])
def test_all_methods_are_looked_at_before_any_is_scored(network, testset, tmp_path, capsys, fault):
    import shutil

    predictions = shutil.copytree(testset, tmp_path / "predictions")
    if fault == "no composites":
        shutil.rmtree(testset / "aim_static" / "0001" / "com")
        methods, message = [f"theirs={predictions}", network], "rvm: aim_static/0001 has no com to give to a network"
    else:
        faulty(fault, testset, predictions)
        methods, message = [network, f"theirs={predictions}"], f"rvm: {predictions}/aim_static/0001/pha has 10 frames"
    assert main(["evaluate", str(testset), *methods, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(message)
    assert not (tmp_path / "out").exists()


def test_without_wandb_it_is_told_at_once(network, testset, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    arguments = ["evaluate", str(testset), network, "--out", str(tmp_path / "out"), "--wandb", "online"]
    assert main(arguments) == 2
    assert capsys.readouterr().err == "rvm: --wandb online needs W&B's package: pip install wandb\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{set}"], "rvm: no method was given"),
        (["nowhere", "{network}"], "rvm: nowhere does not exist: give the folder of a test set"),
        (["{set}", "{network}", "{network}"], "rvm: two methods are called tiny: give them other names"),
        (["{set}", "a b={network}", "a_b={network}"], "rvm: two methods are called a b and a_b: give them other names"),
        (["{set}", "a_without memory={network}", "a={network}", "--without-memory"], "rvm: two methods are called a_w"),
        (["{set}", "{network}", "--downsample-ratio", "0"], "rvm: a down-sampling ratio of 0: expected more than 0"),
        (["{set}", "a=nowhere"], "rvm: nowhere does not exist: give weights, or a folder of predictions"),
    ],
)
def test_what_the_user_has_to_mend(network, testset, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    filled = [argument.format(set=testset, network=network) for argument in arguments]
    assert main(["evaluate", *filled]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1
    assert not (tmp_path / "evaluation").exists()
