"""Folding of BatchNorm into the convolutions before it, for inference.

There a BatchNorm only multiplies each channel by a factor and adds an offset. The first can be done by the kernel
before it, and the offset is what is left.
"""

from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rvm_jax.model.variants import Variant


def fold_batch_norm(variant: Variant, variables: Any) -> Any:
    """The variables of `MattingNetwork(…, folded=True)` that computes, but for rounding, what these do without `train`.

    The factors are multiplied into the kernels in float64, on the host. NumPy arrays of the same dtypes come back.
    """
    params, statistics = (flatten_dict(jax.device_get(variables[name])) for name in ("params", "batch_stats"))
    folded = dict(params)
    for *scope, norm in {path[:-1] for path in statistics}:
        epsilon = variant.norm_epsilon(encoder=scope[0] == "encoder")
        kernel = (*scope, norm.replace("norm", "conv"), "kernel")  # expand_norm → expand_conv, norm1 → conv1
        scale, bias = (params[*scope, norm, name].astype(np.float64) for name in ("scale", "bias"))
        mean, variance = (statistics[*scope, norm, name].astype(np.float64) for name in ("mean", "var"))
        factor = scale / np.sqrt(variance + epsilon)
        del folded[*scope, norm, "scale"]
        dtype = params[kernel].dtype
        folded[kernel] = (params[kernel].astype(np.float64) * factor).astype(dtype)
        folded[*scope, norm, "bias"] = (bias - mean * factor).astype(dtype)
    return {"params": unflatten_dict(folded)}
