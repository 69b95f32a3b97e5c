"""Weight files: round trips that lose no bit, and what is said of files that do not fit."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from rvm_jax.errors import InputError
from rvm_jax.export import torch_network
from rvm_jax.model.network import MattingNetwork
from rvm_jax.model.variants import REFINERS, VARIANTS
from rvm_jax.weights.files import Weights, read_weights, write_weights
from rvm_jax.weights.names import entries, to_state_dict
from tests.reference import recipe
from tests.rvm_jax.conftest import TINY_RESNET, random_variables

KEYS = Path(__file__).parents[2] / "reference" / "data"


def released_state_dict(variant: str, refiner: str = "deep_guided_filter") -> dict[str, torch.Tensor]:
    """A state_dict in the released format, filled from a seed; every count is different."""
    listed = json.loads((KEYS / f"{variant}.keys.json").read_text())
    listed = [(name, shape) for name, shape in listed if refiner == "deep_guided_filter" or "refiner" not in name]
    arrays = recipe.state_dict(listed)
    for number, name in enumerate(arrays):
        if name.endswith("num_batches_tracked"):
            arrays[name] = np.array(number)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.fixture(scope="session")
def tiny_state_dict() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return torch_network.MattingNetwork("tiny").state_dict()


@pytest.fixture(scope="session")
def tiny_file(tiny_state_dict, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(tiny_state_dict, path)
    return path


def save(state_dict: object, path: Path) -> Path:
    torch.save(state_dict, path)
    return path


def assert_same(given: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(given) == list(expected)
    for name, tensor in expected.items():
        assert given[name].dtype == tensor.dtype
        assert torch.equal(given[name], tensor), name


@pytest.mark.parametrize("refiner", REFINERS)
@pytest.mark.parametrize("variant", ["mobilenetv3", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_round_trip_through_every_format_is_bitwise(variant, refiner, tmp_path):
    original = released_state_dict(variant, refiner)
    source = save(original, tmp_path / "in.pth")
    names = ["a", "b.safetensors", "c", "d.pth"]
    for name in names:
        loaded = read_weights(source)
        assert (loaded.variant.name, loaded.refiner) == (variant, refiner)
        source = tmp_path / name
        write_weights(loaded, source)
    written = torch.load(source, weights_only=True)
    assert_same(written, original)
    torch_network.MattingNetwork(variant, refiner).load_state_dict(written, strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "in.pth"]


@pytest.mark.parametrize("refiner", REFINERS)
def test_the_table_is_total(variant, refiner):
    """Every variable of the Flax network and every entry of the PyTorch one stands in the table exactly once."""
    table = entries(variant, refiner)
    network = MattingNetwork(variant, refiner)
    made = jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 1, 32, 32, 3), jnp.float32))
    paths = [tuple(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(made)]
    assert sorted(entry.path for entry in table) == sorted(paths)
    twin = torch_network.MattingNetwork(variant, refiner).state_dict()
    assert [entry.name for entry in table] == list(twin)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), made)
    assert {n: a.shape for n, a in to_state_dict(zeros, table).items()} == {n: t.shape for n, t in twin.items()}


def test_half_precision_is_widened(tiny_state_dict, tmp_path):
    halved = {n: t.half() if t.is_floating_point() else t for n, t in tiny_state_dict.items()}
    loaded = read_weights(save(halved, tmp_path / "half.pth"))
    kernel = loaded.variables["params"]["project_mat"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel[0, 0, :, 1], halved["project_mat.conv.weight"][1, :, 0, 0].float())


def imagenet_state_dict(variant: str) -> dict[str, torch.Tensor]:
    """What torchvision's network of that kind holds: the encoder without its prefix, and a classifier."""
    encoder = {n.removeprefix("backbone."): t for n, t in released_state_dict(variant).items() if "backbone" in n}
    extra = ["fc.weight", "fc.bias"] if variant == "resnet50" else ["classifier.0.weight", "classifier.3.bias"]
    return {**encoder, **{name: torch.ones(3) for name in extra}}


@pytest.mark.parametrize("counts", ["with counts", "without counts"])
@pytest.mark.parametrize("variant", ["mobilenetv3", "resnet50"])
def test_imagenet_networks_become_an_encoder_start(variant, counts, tmp_path):
    given = imagenet_state_dict(variant)
    if counts == "without counts":
        given = {name: tensor for name, tensor in given.items() if "num_batches" not in name}
    start = read_weights(save(given, tmp_path / "imagenet.pth"))
    assert (start.variant.name, start.refiner) == (variant, None)
    assert start.variables["params"].keys() == {"encoder"}
    for name in ("start", "start.pth"):
        write_weights(start, tmp_path / name)
        again = read_weights(tmp_path / name)
        assert again.refiner is None
        jax.tree.map(np.testing.assert_array_equal, again.variables, start.variables)
    written = torch.load(tmp_path / "start.pth", weights_only=True)
    for name, tensor in given.items():
        if not name.startswith(("fc", "classifier")):
            assert torch.equal(written[f"backbone.{name}"], tensor)


def test_every_wrong_entry_is_named(tiny_state_dict, tmp_path):
    changed = dict(tiny_state_dict)
    del changed["aspp.aspp1.0.weight"]
    changed["aspp.extra"] = torch.zeros(2, 3)
    changed["project_mat.conv.weight"] = torch.zeros(4, 9, 1, 1)
    changed["project_mat.conv.bias"] = torch.zeros(4, dtype=torch.int64)
    changed["refiner.conv.1.num_batches_tracked"] = torch.tensor(0.5)
    with pytest.raises(InputError) as caught:
        read_weights(save(changed, tmp_path / "changed.pth"))
    first, *lines = str(caught.value).splitlines()
    assert "changed.pth does not fit the network 'tiny'" in first
    assert lines == [
        "- aspp.aspp1.0.weight [48, 96, 1, 1] float",
        "+ aspp.extra [2, 3] float",
        "- project_mat.conv.bias [4] float",
        "+ project_mat.conv.bias [4] integer",
        "- project_mat.conv.weight [4, 8, 1, 1] float",
        "+ project_mat.conv.weight [4, 9, 1, 1] float",
        "- refiner.conv.1.num_batches_tracked [] integer",
        "+ refiner.conv.1.num_batches_tracked [] float",
    ]


def test_a_wrong_entry_of_a_folder_is_named_in_flax_terms(tiny_file, tmp_path):
    loaded = read_weights(tiny_file)
    variables = jax.tree.map(np.copy, loaded.variables)
    variables["params"]["project_seg"]["bias"] = np.zeros(2, np.float32)
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "folder", variables)
    with pytest.raises(
        InputError, match=r"\n- params/project_seg/bias \[1\] float\n\+ params/project_seg/bias \[2\] float$"
    ):
        read_weights(tmp_path / "folder")


def test_a_folder_saved_on_several_devices_is_read_on_one(tiny_file, tmp_path):
    import orbax.checkpoint as ocp

    loaded = read_weights(tiny_file)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), "devices")
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "folder", jax.device_put(loaded.variables, replicated))
    again = read_weights(tmp_path / "folder")
    jax.tree.map(np.testing.assert_array_equal, again.variables, loaded.variables)
    assert {type(leaf) for leaf in jax.tree.leaves(again.variables)} == {np.ndarray}


def test_a_folder_beside_the_current_one_is_read(tiny_file, tmp_path, monkeypatch):
    loaded = read_weights(tiny_file)
    write_weights(loaded, tmp_path / "folder")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    again = read_weights(Path("../folder"))
    jax.tree.map(np.testing.assert_array_equal, again.variables, loaded.variables)


def test_a_folder_of_a_file_for_each_array_is_read(tiny_file, tmp_path):
    """As orbax writes with `use_ocdbt=False`."""
    import orbax.checkpoint as ocp

    loaded = read_weights(tiny_file)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
        checkpointer.save(tmp_path / "folder", loaded.variables)
    assert not (tmp_path / "folder" / "manifest.ocdbt").exists()
    again = read_weights(tmp_path / "folder")
    jax.tree.map(np.testing.assert_array_equal, again.variables, loaded.variables)


def test_a_folder_is_read_once(tiny_file, tmp_path, monkeypatch):
    import tensorstore

    loaded = read_weights(tiny_file)
    write_weights(loaded, tmp_path / "folder")
    opened, read = [], tensorstore.open
    monkeypatch.setattr(tensorstore, "open", lambda spec, **options: opened.append(spec) or read(spec, **options))
    read_weights(tmp_path / "folder")
    assert len(opened) == len(jax.tree.leaves(loaded.variables))


@pytest.mark.parametrize("variant", [TINY_RESNET, pytest.param(VARIANTS["tiny"], id="tiny")])
def test_a_variant_of_ones_own(variant, tmp_path):
    """Nothing but the table says what it is, so who reads it has to give that."""
    own = replace(variant, name="mine", decoder=(16, 12, 8, 8))
    variables = jax.tree.map(np.asarray, random_variables(MattingNetwork(own), jnp.float32))
    weights = Weights(own, "deep_guided_filter", variables)
    assert weights.network().variant == own
    for name in ("mine.pth", "mine.safetensors", "mine"):
        write_weights(weights, tmp_path / name)
        again = read_weights(tmp_path / name, own)
        assert (again.variant, again.refiner) == (own, "deep_guided_filter")
        jax.tree.map(np.testing.assert_array_equal, again.variables, variables)
        with pytest.raises(InputError, match=r"mine(\.\w+)? (does not fit the network|is not a checkpoint of)"):
            read_weights(tmp_path / name)


def test_weights_are_shown_in_one_line(tiny_file):
    count = sum(parameter.numel() for parameter in torch_network.MattingNetwork("tiny").parameters())
    assert repr(read_weights(tiny_file)) == f"Weights(tiny, deep guided filter, {count:,} parameters)"


def test_parameters_and_parallel_prefixes_are_read(tiny_state_dict, tmp_path):
    parallel = {f"module.{n}": torch.nn.Parameter(t, t.is_floating_point()) for n, t in tiny_state_dict.items()}
    assert read_weights(save(parallel, tmp_path / "parallel.pth")).variant.name == "tiny"


class RunsCode:
    def __reduce__(self):
        return (print, ("code was run",))


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path, capsys):
    with pytest.raises(InputError, match=r"wants to run code when opened \(.*print.*\), which is refused"):
        read_weights(save({"weight": RunsCode()}, tmp_path / "evil.pth"))
    assert capsys.readouterr().out == ""


def truncated(source: Path, path: Path, share: float) -> Path:
    content = source.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def legacy(source: Path, path: Path, share: float) -> Path:
    """A file in the format of PyTorch before 1.6, cut off."""
    torch.save(torch.load(source, weights_only=True), path, _use_new_zipfile_serialization=False)
    return truncated(path, path, share)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


BAD_FILES = {
    "missing": (lambda tiny, at: at / "none.pth", "none.pth does not exist: give a .pth or .safetensors file"),
    "half": (lambda tiny, at: truncated(tiny, at / "half.pth", 0.5), "half.pth is not a PyTorch checkpoint, or it is"),
    "almost": (lambda tiny, at: truncated(tiny, at / "most.pth", 0.99), "most.pth is not a PyTorch checkpoint, or it"),
    "empty": (lambda tiny, at: truncated(tiny, at / "empty.pth", 0), "empty.pth is not a PyTorch checkpoint, or it is"),
    "text": (lambda tiny, at: Path(__file__), "test_files.py is not a PyTorch checkpoint"),
    "refusal": (
        lambda tiny, at: written(at / "page.pth", "Repository not found"),
        "page.pth is not a PyTorch checkpoint",
    ),
    "legacy": (lambda tiny, at: legacy(tiny, at / "legacy.pth", 0.3), "legacy.pth is not a PyTorch checkpoint"),
    "meta": (lambda tiny, at: save({"a": torch.zeros(1, device="meta")}, at / "m.pth"), "tensor without values under"),
    "list": (lambda tiny, at: save([torch.zeros(1)], at / "list.pth"), "list.pth holds a list: expected a state_dict"),
    "nested": (
        lambda tiny, at: save({"model": {"a": torch.zeros(1)}, "step": 3}, at / "run.pth"),
        "holds a dict under 'model': expected a flat state_dict",
    ),
    "other": (
        lambda tiny, at: save({f"layer.{i}": torch.zeros(1) for i in range(9)}, at / "other.pth"),
        r"not a checkpoint of this network: of its 9 entries \(the first is 'layer.0'\) 0 belong to it",
    ),
    "nothing": (lambda tiny, at: save({}, at / "nothing.pth"), "of its 0 entries 0 belong to it"),
    "text.safetensors": (
        lambda tiny, at: truncated(Path(__file__), at / "text.safetensors", 1),
        "is not a safetensors file, or it is damaged",
    ),
    "folder": (lambda tiny, at: at, "is not a folder of saved weights, or it is damaged"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_get_one_clear_line(name, tiny_file, tmp_path):
    make, message = BAD_FILES[name]
    with pytest.raises(InputError, match=message) as caught:
        read_weights(make(tiny_file, tmp_path))
    assert "\n" not in str(caught.value)


def test_an_existing_file_is_kept_unless_told_otherwise(tiny_file, tmp_path):
    loaded = read_weights(tiny_file)
    for name in ("out.pth", "folder"):
        write_weights(loaded, tmp_path / name)
        with pytest.raises(InputError, match="exists already"):
            write_weights(loaded, tmp_path / name)
        write_weights(loaded, tmp_path / name, overwrite=True)
        assert read_weights(tmp_path / name).variant.name == "tiny"


def test_what_is_not_weights_is_never_overwritten(tiny_file, tmp_path):
    loaded = read_weights(tiny_file)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("precious")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder.pth").mkdir()
    for name, message in (
        ("thesis", "thesis is a folder that holds other things than weights"),
        ("file", "file is a file, and a folder would be written"),
        ("folder.pth", "folder.pth is a folder, and a file would be written"),
    ):
        with pytest.raises(InputError, match=message):
            write_weights(loaded, tmp_path / name, overwrite=True)
    assert (tmp_path / "thesis" / "chapter").read_text() == (tmp_path / "file").read_text() == "precious"
    assert list((tmp_path / "folder.pth").iterdir()) == []


def test_a_failed_write_leaves_nothing(tiny_file, tmp_path, monkeypatch):
    loaded = read_weights(tiny_file)
    (tmp_path / "out.pth").write_text("precious")

    def full_disk(state_dict, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(InputError, match=r"cannot write .*out.pth: No space left on device"):
        write_weights(loaded, tmp_path / "out.pth", overwrite=True)
    with pytest.raises(InputError, match="No space left on device"):
        write_weights(loaded, tmp_path / "new" / "deeper" / "out.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["out.pth"]
    assert (tmp_path / "out.pth").read_text() == "precious"


def test_a_full_disk_while_a_folder_is_written(tiny_file, tmp_path):
    """Files of this process cannot grow beyond a few bytes, which TensorStore meets in its own threads."""
    program = (
        "import signal, sys; from tests.full_disk import fill\n"
        "from rvm_jax.cli import main; from rvm_jax.weights import files\n"
        "loaded = files.read_weights(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "files.read_weights = lambda path: loaded\n"
        "fill(1000)\n"
        "sys.exit(main.main(['convert', sys.argv[1], sys.argv[2]]))"
    )
    command = [sys.executable, "-c", program, str(tiny_file), str(tmp_path / "folder")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert f"rvm: cannot write {tmp_path}/folder: " in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("damage", "message"), [("cut off", "Error reading "), ("missing", "it holds no arrays\n")])
def test_a_damaged_folder_gets_one_clear_line(damage, message, tiny_file, tmp_path):
    """In a process of its own, for TensorStore's threads write to the terminal too."""
    write_weights(read_weights(tiny_file), tmp_path / "folder")
    if damage == "missing":
        (tmp_path / "folder" / "manifest.ocdbt").unlink()
    else:
        largest = max((tmp_path / "folder").rglob("d/*"), key=lambda path: path.stat().st_size)
        os.truncate(largest, largest.stat().st_size // 2)
    program = "import sys; from rvm_jax.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "convert", str(tmp_path / "folder"), str(tmp_path / "out.pth")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith(f"rvm: {tmp_path}/folder is not a folder of saved weights, or it is damaged: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_unknown_endings_are_refused(tiny_file, tmp_path):
    with pytest.raises(InputError, match=r"ends in '\.onnx': expected \.pth or .safetensors"):
        write_weights(read_weights(tiny_file), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_variants_are_told_apart():
    for variant in VARIANTS:
        names = {entry.name for entry in entries(VARIANTS[variant])}
        others = [{entry.name for entry in entries(table)} for key, table in VARIANTS.items() if key != variant]
        assert all(names != other for other in others)
