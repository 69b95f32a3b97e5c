"""`rvm train …`: what training is called with."""

import dataclasses
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import train
from rvm_jax.cli import train as cli
from rvm_jax.cli.main import main
from rvm_jax.errors import Stopped
from tests.test_docs import FOUND
from train.recipe import baselines
from train.recipe.division import divide
from train.recipe.options import Options
from train.recipe.published import RECIPES
from train.recipe.recipe import Recipe, check_warmup


@pytest.fixture
def run(monkeypatch):
    """Runs `rvm train …`; gives the recipe and the options with which training was called."""
    called: list[tuple[Recipe, Options]] = []
    loop = ModuleType("train.loop")
    loop.train = lambda recipe, options, *prepare: called.append((recipe, options))
    monkeypatch.setitem(sys.modules, "train.loop", loop)
    monkeypatch.setattr(train, "loop", loop, raising=False)

    def run(*arguments: str) -> tuple[Recipe, Options]:
        assert main(["train", *arguments]) == 0
        return called.pop()

    return run


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_trained_as_they_are(name, run):
    recipe, options = run(name)
    assert recipe == RECIPES[name]
    assert options == Options(out=Path("runs") / name)


@pytest.mark.parametrize(
    ("arguments", "stage", "field", "value"),
    [
        ("--stages.1.epochs 15", 0, "epochs", 15),
        ("--stages.2.iterations 7", 1, "iterations", 7),
        ("--stages.2.iterations=7", 1, "iterations", 7),  # as `wandb agent` has it
        ("--stages.2.samples 700", 1, "samples", 700),
        ("--stages.1.matting footage/mine footage/yours", 0, "matting", ("footage/mine", "footage/yours")),
        ("--stages.3.downsample-ratio 0.5", 2, "downsample_ratio", 0.5),
        ("--stages.4.high-frames 3", 3, "high_frames", 3),
    ],
)
def test_fields_of_stages_are_options(arguments, stage, field, value, run):
    recipe, _ = run("mobilenetv3", *arguments.split())
    changed = [
        (number, name)
        for number, (new, old) in enumerate(zip(recipe.stages, RECIPES["mobilenetv3"].stages, strict=True))
        for name in vars(old)
        if getattr(new, name) != getattr(old, name)
    ]
    assert changed == [(stage, field)]
    assert getattr(recipe.stages[stage], field) == value


def test_a_run_that_was_stopped_has_the_status_of_the_signal(run, monkeypatch, capsys):
    def stopped(recipe, options):
        raise Stopped("stopped and saved after 3 of 8 iterations", signal.SIGTERM)

    monkeypatch.setattr(train.loop, "train", stopped)
    assert main(["train", "demo"]) == 143
    assert capsys.readouterr().err == "rvm: stopped and saved after 3 of 8 iterations\n"


FEWEST = {"video_matte_240k/sd": 237_989, "video_matte_240k/hd": 237_989, "image_matte": 1_027}
"""Frames of the published training data, which make at least as many samples, divided by T, where they are videos."""
WITH_WARMUP = [command for _, command in FOUND if command.startswith("rvm train") and "--warmup" in command]


@pytest.mark.parametrize("command", WITH_WARMUP)
def test_examples_with_a_warmup_can_be_run(command, run):
    recipe, options = run(*shlex.split(command)[2:])
    batch = divide(recipe.batch, options, 8).batch
    samples = [FEWEST[name] if name == "image_matte" else FEWEST[name] // frames for name, frames in used(recipe)]
    lengths = [stage.epochs * count // batch for stage, count in zip(recipe.stages, samples, strict=True)]
    check_warmup(recipe.warmup, {str(number): length for number, length in enumerate(lengths, 1)})


def used(recipe):
    return [(stage.matting[0], stage.frames) for stage in recipe.stages]


def test_there_are_examples_with_a_warmup():
    assert len(WITH_WARMUP) >= 3


def test_rates_are_options(run):
    recipe, _ = run("resnet50", "--stages.4.rates.refiner", "0", "--stages.1.rates.project-seg", "3e-4")
    assert recipe.stages[3].rates.refiner == 0
    assert recipe.stages[2].rates.refiner == 2e-4
    assert recipe.stages[0].rates.project_seg == 3e-4


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        ("--init x", "init", Path("x")),
        ("--scaling linear", "scaling", "linear"),
        ("--backgrounds a b", "backgrounds", ("a", "b")),
        ("--refiner fast_guided_filter", "refiner", "fast_guided_filter"),
        ("--batch 64", "batch", 64),
        ("--schedule cosine", "schedule", "cosine"),
        ("--optimizer lamb", "optimizer", "lamb"),
        ("--clip-norm 1", "clip_norm", 1.0),
        ("--ema 0.999", "ema", 0.999),
        ("--precision float32", "precision", "float32"),
    ],
)
def test_fields_of_the_recipe_are_options(arguments, field, value, run):
    recipe, _ = run("mobilenetv3", *arguments.split())
    assert getattr(recipe, field) == value


@pytest.mark.parametrize("name", baselines.RECIPES)
def test_other_networks_are_trained_by_recipes_of_their_own(name, run):
    recipe, options = run(name, "--stages.1.size", "1024", "--seed", "3")
    wanted = baselines.RECIPES[name]
    first = dataclasses.replace(wanted.stages[0], size=1024)
    assert recipe == dataclasses.replace(wanted, seed=3, stages=(first, *wanted.stages[1:]))
    assert options.out == Path("runs") / name


def test_validation_is_an_option(run):
    recipe, _ = run("demo", "--validation.clips", "3")
    assert recipe.validation.clips == 3


def test_options(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = (
        "--out ~/out --data-dir=~/data --wandb offline --wandb-project p --save-every 5 --validate-every 6 "
        "--keep 7 --clips-per-device 2 --remat --accumulation 4 --coordinator h:1 --process-id 0 --process-count 2 "
        "--local-devices 0 1 --cpu-devices 3 --data-processes 0 --data-threads 5"
    )
    _, options = run("demo", *arguments.split())
    assert options == Options(
        out=tmp_path / "out",
        data_dir=tmp_path / "data",
        wandb="offline",
        wandb_project="p",
        save_every=5,
        validate_every=6,
        keep=7,
        clips_per_device=2,
        remat=True,
        accumulation=4,
        coordinator="h:1",
        process_id=0,
        process_count=2,
        local_devices=(0, 1),
        cpu_devices=3,
        data_processes=0,
        data_threads=5,
    )


def test_data_are_where_tfds_keeps_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert Options(tmp_path).data_dir == tmp_path / "tensorflow_datasets"
    monkeypatch.setenv("TFDS_DATA_DIR", "~/elsewhere")
    assert Options(tmp_path).data_dir == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--stages.1.epochs -1", "--stages.1.epochs -1: expected 0 or more"),
        ("--stages.2.rates.aspp -1", "--stages.2.rates.aspp -1.0: expected 0 or more"),
        ("--stages.4.frames 0", "--stages.4.frames 0: expected 1 or more"),
        ("--validation.frames 0", "--validation.frames 0: expected 1 or more"),
        ("--variant vgg", "--variant vgg: expected one of mobilenetv3, resnet50, tiny"),
        ("--save-every 0", "--save-every 0: expected 1 or more"),
        ("--validate-every -3", "--validate-every -3: expected 1 or more"),
        ("--keep 0", "--keep 0: expected 1 or more"),
        ("--accumulation 0", "--accumulation 0: expected 1 or more"),
        ("--requeue-status 256", "--requeue-status 256: expected an exit status, 0 to 255"),
        ("--data-processes -1", "--data-processes -1: expected 0 or more"),
        ("--data-threads 0", "--data-threads 0: expected 1 or more"),
        ("--clips-per-device 0", "--clips-per-device 0: expected 1 or more"),
        (
            "--batch 16 --clips-per-device 2",
            "--batch 16 and --clips-per-device 2 both say how many clips a step has: give one of them",
        ),
        (
            "--batch 4 --clips-per-device 2",
            "--batch 4 and --clips-per-device 2 both say how many clips a step has: give one of them",
        ),
    ],
)
def test_what_the_user_has_to_mend_is_one_line_and_status_2(arguments, message, capsys):
    assert main(["train", "demo", *arguments.split()]) == 2
    assert capsys.readouterr() == ("", f"rvm: {message}\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "{mobilenetv3, resnet50, clean, demo, modnet, bgmv2, u2net, check, compare}"),
        ("vgg", "mobilenetv3, resnet50, clean, demo, modnet, bgmv2, u2net, check, compare"),
        ("demo --stages.5.epochs 1", "--stages.5.epochs"),
        ("demo --stages.1.epochs many", "--stages.1.epochs"),
        ("demo --precision half", "'float32'"),
        ("demo --wandb maybe", "'offline'"),
    ],
)
def test_what_is_no_option_has_status_2(arguments, told, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as caught:
        main(["train", *arguments.split()])
    assert caught.value.code == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert told in error


def test_help_is_in_groups_with_the_most_important_first(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        cli.app.cli(prog="rvm train", args=["mobilenetv3", "--help"])
    shown = capsys.readouterr().out
    options = re.findall(r"^[│ ] +(--[\w.-]+) ", shown, re.MULTILINE)
    assert options[:4] == ["--out", "--init", "--data-dir", "--batch"]
    stages = [option for option in options if option.startswith("--stages.")]
    assert options[-len(stages) :] == stages
    assert len(stages) == len(set(stages)) == 16
    assert all(option.startswith("--stages.1.") for option in stages)  # the others' are the same
    assert "--stages.2, --stages.3 and --stages.4 have the same options" in shown
    assert len(shown.splitlines()) < 180


def test_every_field_is_an_option_with_a_help():
    grouped = [name for names in cli.GROUPS.values() for name in names]
    described = (*dict.fromkeys(map(type, cli.RECIPES.values())), Options)
    fields = {field.name for made in described for field in dataclasses.fields(made)}
    assert sorted(grouped) == sorted(fields - {"stages", "validation"})
    helps = {name: text for made in described for name, text in cli._helps(made).items()}
    assert set(helps) == fields
    assert all(len(text) > 20 for text in helps.values())
    assert helps["data_dir"].endswith("~/tensorflow_datasets by default.")
    assert helps["remat"].startswith("Compute intermediate results twice")


def test_help_of_the_check_says_what_its_words_stand_for(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        main(["train", "check", "--help"])
    usage = capsys.readouterr().out.partition("\n\n")[0]
    assert usage == "usage: rvm train check [-h] RECIPE [--people WEIGHTS] [--figures FILE] [--store]"


@pytest.mark.parametrize("arguments", [[], ["mobilenetv3"], ["demo"]])
def test_help_has_an_example_and_loads_nothing_heavy(arguments):
    program = (
        "import sys, contextlib, rvm_jax.cli.main\n"
        f"with contextlib.suppress(SystemExit): rvm_jax.cli.main.main(['train', *{arguments}, '--help'])\n"
        "print([m for m in ('jax', 'numpy', 'flax', 'torch', 'tensorflow', 'orbax', 'wandb') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"Example: rvm train {' '.join(arguments)}" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("words", [["check", "clean"], ["compare", "a", "b"]])
def test_only_recipes_are_checked(words, capsys):
    with pytest.raises(SystemExit) as left:
        main(["train", "check", *words])
    assert left.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
