"""Folding of BatchNorm into the convolutions before it, for inference: `rvm_jax.model.folding` for the baselines."""

from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rvm_jax.model.variants import NORM_EPSILON


def fold_batch_norm(variables: Any) -> Any:
    """The variables of a network with `folded=True` that computes, but for rounding, what these do without `train`.

    MODNet's BatchNorms see the first channels of a convolution alone; the others stay as they are. The factors are
    multiplied in in float64, on the host. NumPy arrays of the same dtypes come back.
    """
    params, statistics = (flatten_dict(jax.device_get(variables[name])) for name in ("params", "batch_stats"))
    folded = dict(params)
    for *scope, norm in {path[:-1] for path in statistics}:
        conv = norm.replace("norm", "conv")  # expand_norm → expand_conv, norm1 → conv1
        scale, shift = (params[*scope, norm, name].astype(np.float64) for name in ("scale", "bias"))
        mean, variance = (statistics[*scope, norm, name].astype(np.float64) for name in ("mean", "var"))
        factor = scale / np.sqrt(variance + NORM_EPSILON)
        del folded[*scope, norm, "scale"]
        folded[*scope, norm, "bias"] = (shift - mean * factor).astype(params[*scope, norm, "bias"].dtype)
        for name in ("kernel", "bias"):
            if (path := (*scope, conv, name)) in params:
                array = params[path]
                factors = np.ones(array.shape[-1])
                factors[: len(factor)] = factor
                folded[path] = (array.astype(np.float64) * factors).astype(array.dtype)
    return {"params": unflatten_dict(folded)}
