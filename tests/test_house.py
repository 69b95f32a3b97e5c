"""The house: which room may import which, written here and nowhere else.

A room is a folder of one of the three packages, or a file beside the folders. Imports inside functions count as well.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("rvm_jax", "train", "data_pipelines")
MOST_FILES, MOST_LINES = 12, 400

# Each room with the rooms that it may import; itself it may always import.
ROOMS = {
    "rvm_jax.errors": "",
    "rvm_jax.foreground": "",
    "rvm_jax.host": "rvm_jax.errors",
    "rvm_jax.model": "rvm_jax.errors",
    "rvm_jax.weights": "rvm_jax.errors rvm_jax.host rvm_jax.model",
    "rvm_jax.frame_arrays": "rvm_jax.errors",
    "rvm_jax.baselines": (
        "rvm_jax.errors rvm_jax.foreground rvm_jax.frame_arrays rvm_jax.host rvm_jax.model rvm_jax.weights"
    ),
    "rvm_jax.matte": "rvm_jax.errors rvm_jax.frame_arrays rvm_jax.model rvm_jax.weights rvm_jax.baselines",
    "rvm_jax.video": (
        "rvm_jax.errors rvm_jax.host rvm_jax.model rvm_jax.weights rvm_jax.matte rvm_jax.baselines rvm_jax.foreground"
    ),
    "rvm_jax.export": (  # a model card tells what `evaluation` scored
        "rvm_jax.errors rvm_jax.host rvm_jax.model rvm_jax.weights rvm_jax.baselines rvm_jax.matte rvm_jax.video "
        "rvm_jax.evaluation"
    ),
    "rvm_jax.report": "rvm_jax.errors rvm_jax.host",
    "rvm_jax.evaluation": (
        "rvm_jax.errors rvm_jax.host rvm_jax.model rvm_jax.weights rvm_jax.matte rvm_jax.baselines rvm_jax.video "
        "rvm_jax.report"
    ),
    "rvm_jax.serve": "rvm_jax.errors rvm_jax.host rvm_jax.matte rvm_jax.baselines rvm_jax.video",
    "data_pipelines.archives": "rvm_jax.errors rvm_jax.foreground rvm_jax.host rvm_jax.video",
    "data_pipelines.synthetic": "",
    "data_pipelines.builders": (
        "rvm_jax.errors rvm_jax.host rvm_jax.video data_pipelines.archives data_pipelines.synthetic "
        "data_pipelines.records"
    ),
    "data_pipelines.records": "rvm_jax.errors rvm_jax.host",
    "data_pipelines.augment": "",
    "data_pipelines.sampling": "rvm_jax.errors data_pipelines.records data_pipelines.augment",
    "data_pipelines.pipelines": (
        "rvm_jax.errors rvm_jax.host data_pipelines.records data_pipelines.sampling data_pipelines.augment"
    ),
    "data_pipelines.tools": (
        "rvm_jax.errors rvm_jax.host rvm_jax.video rvm_jax.report rvm_jax.weights data_pipelines.archives "
        "data_pipelines.builders "
        "data_pipelines.records data_pipelines.sampling data_pipelines.augment data_pipelines.pipelines"
    ),
    "train.recipe": "rvm_jax.errors rvm_jax.host rvm_jax.model",
    "train.device": "rvm_jax.errors rvm_jax.host rvm_jax.model rvm_jax.evaluation train.recipe",
    "train.run": (
        "rvm_jax.errors rvm_jax.host rvm_jax.model rvm_jax.weights train.recipe train.device "
        "data_pipelines.records data_pipelines.sampling data_pipelines.pipelines"
    ),
    "train.check": (
        "rvm_jax.errors rvm_jax.host rvm_jax.model rvm_jax.weights train.recipe train.device train.run "
        "data_pipelines.records data_pipelines.sampling data_pipelines.pipelines"
    ),
    "train.tracking": "rvm_jax.errors rvm_jax.host rvm_jax.report train.recipe train.device train.run",
    "train.baselines": (
        "rvm_jax.errors rvm_jax.host rvm_jax.weights rvm_jax.baselines train.recipe train.device train.run "
        "data_pipelines.records data_pipelines.sampling data_pipelines.pipelines"
    ),
    "train.loop": (
        "rvm_jax.errors rvm_jax.host rvm_jax.model rvm_jax.weights train.recipe train.device train.run train.tracking "
        "data_pipelines.sampling data_pipelines.pipelines"
    ),
}
ANY = "rvm_jax.cli"  # the commands may import every room, and nobody imports them

# What a room's files may not import at all, wherever the import stands.
FORBIDDEN = {
    "rvm_jax": {"tensorflow", "tensorflow_datasets", "wandb", "optax", "decord", "cv2"},
    "rvm_jax.model": {"torch", "onnx", "orbax", "av", "PIL"},
    "rvm_jax.baselines": {"torch", "onnx", "orbax", "av"},
    "rvm_jax.host": {"flax", "torch", "orbax", "av"},
    "data_pipelines": {"jax", "flax", "torch", "wandb"},
    "data_pipelines.archives": {"tensorflow", "tensorflow_datasets"},
    "data_pipelines.synthetic": {"tensorflow", "tensorflow_datasets"},
    # What worker processes import that make samples.
    "data_pipelines.augment": {"tensorflow"},
    "data_pipelines.records": {"tensorflow"},
    "train": {"torch"},
    "train.recipe": {"jax", "tensorflow", "wandb"},
    "train.device": {"tensorflow", "wandb", "orbax"},
    "train.tracking": {"tensorflow"},
}
EXCEPT = {("rvm_jax.evaluation.wandb_log", "wandb")}  # imported when `rvm evaluate --wandb` asks for it


def modules(root: Path) -> dict[str, Path]:
    """Every module of the packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> Iterator[str]:
    """What a file imports, as dotted names: `a.b` of `from a import b`, whether b is a module or not."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                assert node.level == 0, f"{path} imports by a relative name"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name))]):
                yield name


def targets(root: Path) -> dict[str, set[str]]:
    """The modules of ours that each module imports."""
    known = modules(root)
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        found[name] = set()
        for imported in imports(path):
            if imported.split(".")[0] in PACKAGES:
                module = imported if imported in known else imported.rpartition(".")[0]
                assert module in known, f"{name} imports {imported}, which is not there"
                found[name].add(module)
    return found


def room(module: str) -> str:
    """The room of a module; what `python -m rvm_jax` runs is the command itself."""
    return ANY if module == "rvm_jax.__main__" else ".".join(module.split(".")[:2])


def wrong_arrows(root: Path, rooms: Mapping[str, str]) -> list[str]:
    """The imports that the table does not allow."""
    wrong = []
    for module, imported in targets(root).items():
        if module in PACKAGES or room(module) == ANY:  # a package's `__init__` only knows where its names live
            continue
        allowed = {room(module), *rooms[room(module)].split()}
        wrong += [f"{module} imports {other}" for other in sorted(imported) if room(other) not in allowed]
    return wrong


def circle(graph: Mapping[str, set[str]]) -> list[str] | None:
    """A circle of modules that import each other, if there is one."""
    done: set[str] = set()

    def search(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        for other in sorted(graph.get(node, ())):
            if found := search(other, [*path, node]):
                return found
        done.add(node)
        return None

    return next(filter(None, (search(node, []) for node in graph)), None)


def test_every_arrow_is_in_the_table():
    assert {room(module) for module in modules(ROOT) if module not in PACKAGES} == {*ROOMS, ANY}
    assert wrong_arrows(ROOT, ROOMS) == []


def test_nothing_runs_back():
    assert circle({name: set(others.split()) for name, others in ROOMS.items()}) is None
    graph = {name: others for name, others in targets(ROOT).items() if name not in PACKAGES}
    assert circle(graph) is None


def test_nobody_imports_the_commands():
    assert [name for name, others in targets(ROOT).items() if room(name) != ANY and ANY in map(room, others)] == []


@pytest.mark.parametrize("where", FORBIDDEN)
def test_libraries_stay_in_their_rooms(where):
    for name, path in modules(ROOT).items():
        if f"{name}.".startswith(f"{where}."):
            brought = {imported.split(".")[0] for imported in imports(path)} & FORBIDDEN[where]
            assert {library for library in brought if (name, library) not in EXCEPT} == set(), name


def test_folders_and_files_fit_in_a_readers_head():
    folders: dict[Path, int] = {}
    for path in modules(ROOT).values():
        lines = path.read_text().count("\n")
        assert lines <= MOST_LINES, f"{path} has {lines} lines: does it have one subject?"
        folders[path.parent] = folders.get(path.parent, 0) + (path.name != "__init__.py")
    assert {folder: count for folder, count in folders.items() if count > MOST_FILES} == {}


def test_every_room_says_what_is_in_it():
    for name, path in modules(ROOT).items():
        assert ast.get_docstring(ast.parse(path.read_text())), f"{name} has no docstring"


ADDED = {
    "back": ({"model/a.py": "from rvm_jax.video import b", "video/b.py": ""}, ["model.a imports rvm_jax.video.b"], 0),
    "in a function": (
        {"host/a.py": "def f():\n    import rvm_jax.model.b", "model/b.py": ""},
        ["host.a imports rvm_jax.model.b"],
        0,
    ),
    "training": ({"video/a.py": "import train.loop", "../train/loop.py": ""}, ["video.a imports train.loop"], 0),
    "a circle": (
        {"video/a.py": "from rvm_jax.video.b import x", "video/b.py": "def f():\n    from rvm_jax.video import a"},
        [],
        3,
    ),
    "an allowed one": ({"video/a.py": "from rvm_jax.model.b import x", "model/b.py": "x = 1"}, [], 0),
}


@pytest.mark.parametrize(("files", "wrong", "around"), ADDED.values(), ids=ADDED)
def test_an_arrow_that_is_added_is_seen(tmp_path, files, wrong, around):
    for name, text in files.items():
        path = tmp_path / "rvm_jax" / name
        for folder in (tmp_path / "rvm_jax", path.parent):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "__init__.py").touch()
        path.write_text(text)
    assert wrong_arrows(tmp_path, ROOMS) == [f"rvm_jax.{arrow}" for arrow in wrong]
    assert len(circle(targets(tmp_path)) or []) == around


@pytest.mark.parametrize("arguments", [["--help"], ["matte", "--help"]])
def test_matting_imports_no_training(arguments):
    program = (
        "import sys\nfrom rvm_jax.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'train', 'data_pipelines', 'tensorflow'} & sys.modules.keys()), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("usage: rvm")
    assert result.stderr == "[]\n"
