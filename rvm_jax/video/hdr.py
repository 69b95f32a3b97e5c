"""High dynamic range: PQ and HLG of BT.2100, and how colours of sRGB and what a network should see come in and out.

Arrays are floats; of colours the last axis is RGB. Codes are 0..1 as they are stored, light is in nits (cd/m²).
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvm_jax.video.frames import HLG, PQ

PAPER_WHITE = 203
"""How bright a white sheet is in pictures of either (BT.2408)."""

PEAK, GAMMA = 1000, 1.2
"""Of the screen that HLG is graded on."""

FROM_BT709 = (
    (0.6274, 0.3293, 0.0433),
    (0.0691, 0.9195, 0.0114),
    (0.0164, 0.0880, 0.8956),
)
"""From the primaries of BT.709 to those of BT.2020, in linear light (BT.2087)."""

LUMINANCE = (0.2627, 0.6780, 0.0593)
"""Of the primaries of BT.2020."""

_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073


def pq_to_nits(code: ArrayLike) -> Array:
    """The EOTF of PQ: what a screen shows."""
    x = jnp.power(code, 1 / _M2)
    return 10000 * jnp.power(jnp.maximum(x - _C1, 0) / (_C2 - _C3 * x), 1 / _M1)


def nits_to_pq(nits: ArrayLike) -> Array:
    x = jnp.power(jnp.clip(jnp.asarray(nits) / 10000, 0, 1), _M1)
    return jnp.power((_C1 + _C2 * x) / (1 + _C3 * x), _M2)


def scene_to_hlg(light: ArrayLike) -> Array:
    """The OETF of HLG, of light 0..1 as it falls into a camera."""
    light = jnp.clip(light, 0, 1)
    bright = _A * jnp.log(jnp.maximum(12 * light - _B, 1e-6)) + _C
    return jnp.where(light <= 1 / 12, jnp.sqrt(3 * light), bright)


def hlg_to_scene(code: ArrayLike) -> Array:
    code = jnp.asarray(code)
    return jnp.where(code <= 0.5, code**2 / 3, (jnp.exp((code - _C) / _A) + _B) / 12)


def nits_to_hlg(nits: ArrayLike) -> Array:
    """What is shown on a screen of `PEAK` nits, `[..., 3]`: its OOTF taken back, and stored."""
    shown = jnp.asarray(nits) / PEAK
    weights = jnp.asarray(LUMINANCE, shown.dtype)
    luminance = jnp.einsum("...i,i->...", shown, weights, precision="highest")[..., None]
    return scene_to_hlg(shown * jnp.power(jnp.maximum(luminance, 1e-6), (1 - GAMMA) / GAMMA))


def srgb_to_light(code: ArrayLike) -> Array:
    code = jnp.asarray(code)
    return jnp.where(code <= 0.04045, code / 12.92, jnp.power((code + 0.055) / 1.055, 2.4))


def light_to_srgb(light: ArrayLike) -> Array:
    light = jnp.clip(light, 0, 1)
    return jnp.where(light <= 0.0031308, light * 12.92, 1.055 * jnp.power(light, 1 / 2.4) - 0.055)


def from_srgb(colors: Array, transfer: int) -> Array:
    """Colours of sRGB `[..., 3]` in BT.2020 with such a transfer; their white is `PAPER_WHITE`."""
    light = srgb_to_light(colors)
    matrix = jnp.asarray(FROM_BT709, light.dtype)
    nits = PAPER_WHITE * jnp.einsum("...i,oi->...o", light, matrix, precision="highest")
    return nits_to_pq(nits) if transfer == PQ else nits_to_hlg(nits)


def to_seen(codes: Array, transfer: int) -> Array:
    """What a network should see, which knows pictures of today's web: HLG, made to look right there, and PQ as that.

    Each channel goes by itself, so that `from_seen` can take it back.
    """
    return codes if transfer == HLG else scene_to_hlg(jnp.power(pq_to_nits(codes) / PEAK, 1 / GAMMA))


def from_seen(seen: Array, transfer: int) -> Array:
    return seen if transfer == HLG else nits_to_pq(PEAK * jnp.power(hlg_to_scene(seen), GAMMA))
