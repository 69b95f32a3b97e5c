"""Reading of `.pth` files, plain ones without PyTorch, the import of which takes a second.

Since PyTorch 1.6 such a file is a zip archive of a pickle and of the numbers of each tensor. The pickle is read with
nothing but the two functions that a state_dict of tensors needs. A TorchScript file has a pickle of modules within
modules instead, of which the tensors are taken; the code beside it is never looked at.
"""

import io
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from rvm_jax.errors import InputError

DTYPES: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
}


def read(path: Path) -> dict[str, np.ndarray]:
    """The entries of a state_dict; PyTorch is asked where a file is not plain, and never runs what is in it."""
    plain = read_plain(path)
    if plain is not None:
        return plain
    if not may_be_pytorchs(path):
        raise InputError(f"{path} is not a PyTorch checkpoint, or it is damaged")
    torch = import_torch(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats: the error, if there is one, says enough
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may make the unpickler raise anything
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted and isinstance(error, pickle.UnpicklingError):
            raise InputError(
                f"{path} wants to run code when opened ({wanted[1]}), which is refused: "
                "ask for a file that holds a plain state_dict of tensors"
            ) from error
        raise InputError(f"{path} is not a PyTorch checkpoint, or it is damaged") from error
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path} holds a {type(checkpoint).__name__}: expected a state_dict, names with tensors")
    arrays = {}
    for name, tensor in checkpoint.items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_meta:
            kind = "tensor without values" if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise InputError(
                f"{path} holds a {kind} under {name!r}: expected a flat state_dict of tensors, "
                "so save that of the network alone"
            )
        # NumPy has no bfloat16 or float8; float32 holds both exactly.
        narrow = tensor.is_floating_point() and tensor.dtype.itemsize < 4
        arrays[name] = (tensor.float() if narrow else tensor).detach().numpy()
    return arrays


def import_torch(path: Path) -> Any:
    """PyTorch, to read or to write a file."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path.name} needs PyTorch: pip install 'rvm-jax[torch]', or use .safetensors, which needs nothing more"
        ) from error
    return torch


def read_plain(path: Path) -> dict[str, np.ndarray] | None:
    """The tensors of a file; None if it holds anything else, or is damaged: PyTorch knows more, and why."""
    try:
        with zipfile.ZipFile(path) as archive:
            checkpoint = _Unpickler(archive).load()
        if isinstance(checkpoint, _Module):
            return dict(_tensors_of(checkpoint))
    except Exception:  # whatever a damaged file makes of the unpickler
        return None
    plain = isinstance(checkpoint, dict) and all(isinstance(array, np.ndarray) for array in checkpoint.values())
    return dict(checkpoint) if plain else None


def may_be_pytorchs(path: Path) -> bool:
    """Whether it is a whole zip archive, or begins as a pickle does, which such files were before."""
    with path.open("rb") as file:
        return zipfile.is_zipfile(file) or (file.seek(0) == 0 and file.read(1) == b"\x80")


class _Module:
    """A module of a TorchScript file, whatever its class: what the pickle says of it are its attributes."""


def _tensors_of(module: _Module, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of a module by the names that a state_dict gives them."""
    for name, value in vars(module).items():
        if isinstance(value, np.ndarray):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _tensors_of(value, f"{prefix}{name}.")


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile):
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        super().__init__(io.BytesIO(archive.read(name)))
        self._archive, self._root = archive, name.removesuffix("data.pkl")
        order = f"{self._root}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise pickle.UnpicklingError("numbers of another byte order")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in DTYPES:
            return name
        if module.split(".")[0] == "__torch__":
            return _Module
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, identity: tuple[str, str, str, str, int]) -> np.ndarray:
        """The numbers that several tensors may look at."""
        _, kind, key, _, count = identity
        return np.frombuffer(
            self._archive.read(f"{self._root}data/{key}"), np.dtype(DTYPES[kind]).newbyteorder("<"), count
        )


def _tensor(numbers: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> np.ndarray:
    if 0 in shape:
        return np.empty(shape, numbers.dtype)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if min(offset, *shape, *strides, 0) < 0 or last >= len(numbers):
        raise pickle.UnpicklingError("a tensor that reaches beyond its numbers")
    steps = [stride * numbers.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps).copy()
