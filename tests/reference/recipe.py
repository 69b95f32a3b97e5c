"""The weight and input recipe of the reference files (numpy only)."""

import zlib

import numpy as np


def tensor(name, shape, batchnorm):
    """Value of one state_dict entry. batchnorm: a sibling '<prefix>.running_mean' exists."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name == "refiner.box_filter.weight":
        return np.full(shape, 1 / 9, np.float32)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_mean"):
        x = 0.1 * rng.standard_normal(shape)
    elif name.endswith("running_var"):
        x = rng.uniform(0.5, 1.5, shape)
    elif batchnorm and name.endswith("weight"):
        x = rng.uniform(0.8, 1.2, shape)
    elif len(shape) == 4:
        gain = 0.2 if name.startswith("project_") or name == "refiner.conv.6.weight" else 1.0
        x = gain * np.sqrt(2 / np.prod(shape[1:])) * rng.standard_normal(shape)
    elif name == "project_mat.conv.bias":
        x = np.array([0.0, 0.0, 0.0, 0.5])
    else:
        x = 0.1 * rng.standard_normal(shape)
    return x.astype(np.float32)


def state_dict(entries):
    """entries: [[name, shape], ...] as in <variant>.keys.json."""
    names = {n for n, _ in entries}
    return {n: tensor(n, tuple(s), n.rsplit(".", 1)[0] + ".running_mean" in names) for n, s in entries}


def video(seed, b, t, h, w, c):
    """Uniform [0, 1) float32 array of shape [b, t, h, w, c]."""
    return np.random.default_rng(seed).random((b, t, h, w, c), dtype=np.float32)
