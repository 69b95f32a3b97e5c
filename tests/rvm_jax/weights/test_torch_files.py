"""Plain `.pth` files are read without PyTorch, and everything else is left to it."""

import pickle
import sys
import zipfile
from collections import OrderedDict
from types import ModuleType

import numpy as np
import pytest
import torch

from rvm_jax.weights import torch_files


def save(path, checkpoint, **options):
    torch.save(checkpoint, path, **options)
    return path


def test_tensors_are_read_as_pytorch_reads_them(tmp_path):
    torch.manual_seed(0)
    numbers = torch.randn(40)
    given = OrderedDict(
        kernel=torch.randn(2, 3, 4, 5),
        part=numbers[3:27].reshape(4, 6).T,  # with an offset, and not in the order in which it lies there
        whole=numbers,
        double=torch.randn(3, dtype=torch.float64),
        half=torch.randn(3).half(),
        narrow=torch.randn(3).bfloat16(),
        count=torch.tensor(7),
        none=torch.zeros(0, 3),
    )
    found = torch_files.read_plain(save(tmp_path / "a.pth", given))
    assert found is not None
    assert list(found) == list(given)
    for name, tensor in given.items():
        assert found[name].dtype.name == str(tensor.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(found[name].astype(np.float64), tensor.double().numpy())


def test_a_network_is_read_with_its_metadata(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    found = torch_files.read_plain(save(tmp_path / "a.pth", network.state_dict()))
    assert found is not None
    assert found.keys() == network.state_dict().keys()


class Reaching:
    """Unpickles as a tensor of more numbers than the file holds."""

    def __reduce__(self):
        storage = torch.zeros(4).untyped_storage()
        return torch._utils._rebuild_tensor_v2, (
            torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True),
            1,
            (4,),
            (1,),
            False,
            OrderedDict(),
        )


class Running:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    "checkpoint", [{"a": torch.zeros(2), "b": 3}, [torch.zeros(2)], {"a": Reaching()}, {"a": Running()}]
)
def test_anything_else_is_left_to_pytorch(checkpoint, tmp_path, capsys):
    assert torch_files.read_plain(save(tmp_path / "a.pth", checkpoint)) is None
    assert not capsys.readouterr().out


def test_older_and_damaged_files_are_left_to_pytorch(tmp_path):
    old = save(tmp_path / "old.pth", {"a": torch.zeros(2)}, _use_new_zipfile_serialization=False)
    new = save(tmp_path / "new.pth", {"a": torch.arange(1000.0)})
    content = bytearray(new.read_bytes())
    content[content.index(np.arange(500.0, 510, dtype=np.float32).tobytes())] ^= 1
    new.write_bytes(content)
    text = tmp_path / "text.pth"
    text.write_bytes(pickle.dumps({"a": 1}))
    assert [torch_files.read_plain(path) for path in (old, new, text)] == [None] * 3


def test_modules_may_be_called_anything_but_hold_no_circle(tmp_path, monkeypatch):
    stranger = ModuleType("__torch__")
    stranger.Net = type("Net", (), {"__module__": "__torch__"})
    monkeypatch.setitem(sys.modules, "__torch__", stranger)
    named, circle = stranger.Net(), stranger.Net()
    named.tensors, circle.itself = stranger.Net(), circle
    for name, module in (("named", named), ("circle", circle)):
        with zipfile.ZipFile(tmp_path / f"{name}.pt", "w") as archive:
            archive.writestr("net/data.pkl", pickle.dumps(module, 2))
    assert torch_files.read_plain(tmp_path / "named.pt") == {}
    assert torch_files.read_plain(tmp_path / "circle.pt") is None
