"""The weight and input recipe of the baseline reference files (numpy only, deterministic).

state_dict(variant, entries) gives every entry of <variant>.keys.json; image() and photo() give inputs.
Differs from recipe.py where plain He weights would saturate these networks: residual branches and heads are scaled."""

import re
import zlib

import numpy as np

# variant -> {entry: (gain of the kernel, bias)}. A gain may be a pair: output channels 0..4, then the rest.
HEADS = {
    "modnet": {
        "lr_branch.conv_lr.layers.0": (1.095, [-0.841]),
        "hr_branch.conv_hr.1.layers.0": (2.622, [-0.926]),
        "f_branch.conv_f.1.layers.0": (1.518, [-2.026]),
    },
    "u2net": {
        "side1": (0.816, [-0.861]),
        "side2": (1.009, [-0.211]),
        "side3": (0.929, [-2.556]),
        "side4": (0.607, [-0.815]),
        "side5": (0.308, [1.385]),
        "side6": (0.459, [2.333]),
        "outconv": (0.743, [0.001]),
    },
    "u2netp": {
        "side1": (0.456, [-3.37]),
        "side2": (0.7, [2.869]),
        "side3": (1.087, [-4.105]),
        "side4": (0.528, [3.723]),
        "side5": (0.767, [-1.083]),
        "side6": (0.697, [0.447]),
        "outconv": (0.557, [0.001]),
    },
    "mattingbase_mobilenetv2": {
        "decoder.conv4": ((0.33, 0.96), [0.848, -0.229, -0.128, 0.494, 0.852]),
    },
    "mattingrefine_mobilenetv2": {
        "decoder.conv4": ((0.33, 0.96), [0.848, -0.229, -0.128, 0.494, 0.852]),
        "refiner.conv4": (0.506, [1.819, 0.515, -1.333, 0.107]),
    },
    "mattingrefine_mobilenetv2_k1": {  # refine_kernel_size=1
        "decoder.conv4": ((0.33, 0.96), [0.848, -0.229, -0.128, 0.494, 0.852]),
        "refiner.conv4": (0.69, [0.976, -0.136, 0.443, -0.374]),
    },
    "mattingbase_resnet50": {
        "decoder.conv4": ((0.724, 2.73), [1.672, -1.968, -0.221, 1.412, 0.776]),
    },
    "mattingrefine_resnet50": {
        "decoder.conv4": ((0.724, 2.73), [1.672, -1.968, -0.221, 1.412, 0.776]),
        "refiner.conv4": (0.299, [1.605, 1.456, -1.393, 0.289]),
    },
    "mattingbase_resnet101": {
        "decoder.conv4": ((0.642, 2.315), [1.731, -1.921, -0.462, 1.501, 0.624]),
    },
    "mattingrefine_resnet101": {
        "decoder.conv4": ((0.642, 2.315), [1.731, -1.921, -0.462, 1.501, 0.624]),
        "refiner.conv4": (0.335, [1.642, 1.415, -1.409, 0.308]),
    },
}

# The last normalisation of a residual branch, scaled down so that depth does not blow the features up.
RESIDUAL = [
    (r"backbone\.layer\d\.\d+\.bn3\.weight$", 0.2),  # ResNet bottleneck
    (r"rebnconv1d\.bn_s1\.weight$", 0.3),
]  # U2-Net RSU


def canonical(name):
    """MODNet registers its backbone twice; both names are one tensor. A DataParallel prefix is dropped."""
    return name.removeprefix("module.").replace("lr_branch.backbone.", "backbone.")


def tensor(variant, name, shape, batchnorm):
    """Value of one state_dict entry. batchnorm: a sibling '<prefix>.running_mean' exists."""
    name = canonical(name)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    prefix, leaf = name.rsplit(".", 1)
    head = HEADS.get(variant, {}).get(prefix)
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_mean":
        x = 0.1 * rng.standard_normal(shape)
    elif leaf == "running_var":
        x = rng.uniform(0.5, 1.5, shape)
    elif batchnorm and leaf == "weight":
        x = rng.uniform(0.8, 1.2, shape)
        for pattern, gain in RESIDUAL:
            if re.search(pattern, name):
                x = gain * x
    elif len(shape) >= 2:
        x = np.sqrt(2 / np.prod(shape[1:])) * rng.standard_normal(shape)
        if head:
            gain = np.ones(shape[0])
            gain[:5], gain[5:] = head[0] if isinstance(head[0], tuple) else (head[0], head[0])
            x = x * gain.reshape(-1, *[1] * (len(shape) - 1))
    else:
        x = 0.1 * rng.standard_normal(shape)
        if head:
            x[: len(head[1])] = head[1]
    return x.astype(np.float32)


def state_dict(variant, entries):
    """entries: [[name, shape], ...] as in <variant>.keys.json."""
    names = {n for n, _ in entries}
    return {n: tensor(variant, n, tuple(s), n.rsplit(".", 1)[0] + ".running_mean" in names) for n, s in entries}


def image(seed, b, h, w, c):
    """float32 [b, h, w, c] in [0, 1): fine noise over blocks of 16 pixels, so that features differ by place."""
    rng = np.random.default_rng(seed)
    fine = rng.random((b, h, w, c), dtype=np.float32)
    coarse = rng.random((b, -(-h // 16), -(-w // 16), c), dtype=np.float32)
    return fine * np.float32(0.25) + coarse.repeat(16, 1).repeat(16, 2)[:, :h, :w] * np.float32(0.75)


def photo(seed, h, w, c=3):
    """uint8 [h, w, c], the same picture as image() rounded down to bytes: an input for the pre-processing cases."""
    return (image(seed, 1, h, w, c)[0] * np.float32(256)).astype(np.uint8)


def matte(seed, b, h, w):
    """float64 alpha [b, h, w, 1] with pixels at 0, at 1 and between: the truth of the loss and train-mode cases."""
    return np.clip((image(seed, b, h, w, 1).astype(np.float64) - 0.3) / 0.4, 0, 1)


def trimap(alpha):
    """0 below 0.1, 1 above 0.9, else 0.5."""
    return np.where(alpha < 0.1, 0.0, np.where(alpha > 0.9, 1.0, 0.5))
