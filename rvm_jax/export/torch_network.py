"""The matting network in PyTorch, to deploy what was trained here and to compare with.

Its `state_dict` has the names, shapes and order of the released checkpoints, which is why some attributes are called
`features.1.block.0` or `ih`. It compiles with `torch.jit.script`. Arrays are channels first: N = B·T frames in a row.
"""

import os
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rvm_jax.errors import InputError
from rvm_jax.export.torch_encoders import COLORS, conv, conv_norm, encoder, relu
from rvm_jax.model.variants import FILTER_EPSILON, REFINERS, VARIANTS, Refiner, Variant
from rvm_jax.weights import hub_folders

TARGETS = 4  # the foreground residual and alpha


class MattingNetwork(nn.Module):
    """Robust video matting of clips, or of a stream of single frames:

        network = MattingNetwork("mobilenetv3").eval()
        rec = [None] * 4
        for frame in frames:  # [B, 3, H, W] in 0..1
            fgr, pha, *rec = network(frame, *rec, downsample_ratio=0.25)

    Args:
      variant: "mobilenetv3", "resnet50", "tiny", or a table of one's own.
      refiner: what lifts the result to full size when `downsample_ratio` is not 1.
    """

    def __init__(self, variant: str | Variant = "mobilenetv3", refiner: Refiner = "deep_guided_filter") -> None:
        super().__init__()
        if isinstance(variant, str) and variant not in VARIANTS:
            raise InputError(f"unknown variant {variant!r}: choose one of {', '.join(VARIANTS)}")
        if refiner not in REFINERS:
            raise InputError(f"unknown refiner {refiner!r}: choose one of {', '.join(REFINERS)}")
        table = variant if isinstance(variant, Variant) else VARIANTS[variant]
        f1, f2, f3, f4 = table.encoder.tap_features
        hidden = table.decoder[-1]
        # The order of these lines is the order of the state_dict.
        self.backbone = encoder(table.encoder)
        self.aspp = LRASPP(f4, table.aspp)
        self.decoder = Decoder(table.aspp, (f3, f2, f1), table.decoder)
        self.project_mat = nn.Sequential(OrderedDict(conv=conv(hidden, TARGETS, bias=True)))
        self.project_seg = nn.Sequential(OrderedDict(conv=conv(hidden, 1, bias=True)))
        self.refiner = GuidedFilter(hidden, deep=refiner == "deep_guided_filter")

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str]) -> "MattingNetwork":
        """The network of a folder that `rvm export --to hub` wrote, or of owner/name on the Hugging Face Hub.

        Ready to matte: in `eval` mode, on the CPU. `owner/name@REVISION` is one that does not change any more.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = hub_folders.folder(name)
        network = cls(*hub_folders.config(folder))
        path = folder / hub_folders.WEIGHTS
        try:
            network.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError) as error:  # of other names and shapes
            raise InputError(
                f"{path} is damaged, or it is not the network that {hub_folders.CONFIG} tells: get both again"
            ) from error
        return network.eval()

    def forward(
        self,
        src: Tensor,
        r1: Tensor | None = None,
        r2: Tensor | None = None,
        r3: Tensor | None = None,
        r4: Tensor | None = None,
        downsample_ratio: float = 1.0,
        segmentation_pass: bool = False,
    ) -> list[Tensor]:
        """Matte or segment clips `src` `[B, T, 3, H, W]`, or single frames `[B, 3, H, W]`, in 0..1.

        Without r1..r4 the memory is empty; given those of the last call, the clips go on.

        Returns:
          `[fgr, pha, r1, r2, r3, r4]`, fgr `[B, T, 3, H, W]` and pha `[B, T, 1, H, W]` in 0..1, or, for a segmentation
          pass, `[seg, r1, r2, r3, r4]`, logits `[B, T, 1, h, w]` at the down-sampled size h = ⌊H·ratio⌋; for single
          frames without T. r1..r4 are `[B, C, h/s, w/s]`, s = 2, 4, 8, 16, rounded up.
        """
        if src.ndim not in (4, 5) or src.shape[-3] != 3:
            raise InputError(
                f"src has shape {src.shape}: expected [B, T, 3, H, W] for clips or [B, 3, H, W] for frames"
            )
        if not src.is_floating_point():
            raise InputError("src holds whole numbers: expected floats in 0..1, so divide 8-bit frames by 255")
        if downsample_ratio <= 0 or downsample_ratio > 1:
            raise InputError(f"downsample_ratio is {downsample_ratio}: expected a number above 0 and at most 1")
        steps = src.shape[1] if src.ndim == 5 else 1
        full = src.flatten(0, 1) if src.ndim == 5 else src  # [N, 3, H, W]
        low = full
        if downsample_ratio != 1:
            # The refiner looks at small differences between pixels, which half precision would round away.
            full = at_least_float32(full)
            # Given as a factor, the sampling step is 1 / ratio; given as a size, it would be H / h.
            low = F.interpolate(full, scale_factor=downsample_ratio, mode="bilinear", align_corners=False)

        seen = low.to(src.dtype)
        f1, f2, f3, f4 = self.backbone(seen)
        hidden, state = self.decoder(self.aspp(f4), [f3, f2, f1], seen, [r4, r3, r2, r1], steps)

        if segmentation_pass:
            results = [self.project_seg(hidden)]
        else:
            target = self.project_mat(hidden)
            if downsample_ratio != 1:
                target = self.refiner(full, low, target, hidden)
            residual, alpha = target.split([3, 1], 1)
            results = [(residual + full).clamp(0, 1).to(src.dtype), alpha.clamp(0, 1).to(src.dtype)]
        if src.ndim == 5:
            results = [result.unflatten(0, (-1, steps)) for result in results]  # [B, T, C, H, W]
        return results + state


class LRASPP(nn.Module):
    """A 1×1 projection of the deepest feature, gated by that feature's mean over each frame."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.aspp1 = conv_norm(conv(inputs, features), relu())
        self.aspp2 = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(inputs, features), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.aspp1(x) * self.aspp2(x)


class Decoder(nn.Module):
    """From the LR-ASPP output up to the hidden features at full size.

    Args:
      bottom: width of the LR-ASPP output.
      taps: widths of the encoder's features at 1/8, 1/4 and 1/2.
      features: widths of the blocks at 1/8, 1/4, 1/2 and full size.
    """

    def __init__(self, bottom: int, taps: tuple[int, int, int], features: tuple[int, int, int, int]) -> None:
        super().__init__()

        def block(inputs: int, tap: int, features: int) -> nn.ModuleDict:
            merge = conv_norm(conv(inputs + tap + COLORS, features, 3), relu())
            return nn.ModuleDict({"conv": merge, "gru": HalfConvGRU(features)})

        (f3, f2, f1), (d3, d2, d1, d0) = taps, features
        self.decode4 = nn.ModuleDict({"gru": HalfConvGRU(bottom)})
        self.decode3 = block(bottom, f3, d3)
        self.decode2 = block(d3, f2, d2)
        self.decode1 = block(d2, f1, d1)
        merge = conv_norm(conv(d1 + COLORS, d0, 3), relu())
        self.decode0 = nn.ModuleDict({"conv": merge.extend(conv_norm(conv(d0, d0, 3), relu()))})

    def forward(
        self, x: Tensor, taps: list[Tensor], frames: Tensor, state: list[Tensor | None], steps: int
    ) -> tuple[Tensor, list[Tensor]]:
        """`x` at 1/16, `taps` at 1/8, 1/4, 1/2, `frames` `[N, 3, H, W]`, and `[r4, r3, r2, r1]` → `[N, d0, H, W]`,
        `[r1, r2, r3, r4]`."""
        f3, f2, f1 = taps
        r4, r3, r2, r1 = state
        s1 = halve(frames)
        s2 = halve(s1)
        s3 = halve(s2)
        x, r4 = self.decode4["gru"](x, r4, steps)
        x = self.decode3["conv"](join(x, [f3, s3]))
        x, r3 = self.decode3["gru"](x, r3, steps)
        x = self.decode2["conv"](join(x, [f2, s2]))
        x, r2 = self.decode2["gru"](x, r2, steps)
        x = self.decode1["conv"](join(x, [f1, s1]))
        x, r1 = self.decode1["gru"](x, r1, steps)
        x = self.decode0["conv"](join(x, [frames]))
        return x, [r1, r2, r3, r4]


def halve(x: Tensor) -> Tensor:
    """Mean over 2×2 windows, at an odd edge of the pixels that exist: `[N, C, H, W]` → `[N, C, ⌈H/2⌉, ⌈W/2⌉]`."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


def join(x: Tensor, others: list[Tensor]) -> Tensor:
    """Up-sample x twice, crop it to the size of the others, and concatenate all."""
    height, width = others[0].shape[-2:]
    x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    return torch.cat([x[:, :, :height, :width]] + others, 1)  # noqa: RUF005, TorchScript has no [x, *others]


class HalfConvGRU(nn.Module):
    """A ConvGRU over time on the second half of `features` channels; the first half passes by."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.ih = nn.Sequential(conv(features, features, 3, bias=True), nn.Sigmoid())
        self.hh = nn.Sequential(conv(features, features // 2, 3, bias=True), nn.Tanh())

    def forward(self, x: Tensor, memory: Tensor | None, steps: int) -> tuple[Tensor, Tensor]:
        """`[B·steps, 2C, h, w]` and `[B, C, h, w]` → the same shapes."""
        passing, x = x.chunk(2, 1)
        if memory is None:
            memory = torch.zeros_like(x[: x.shape[0] // steps])
        if steps == 1:  # No reshaping of single frames, which keeps exported graphs plain.
            memory = self.step(x, memory)
            return torch.cat([passing, memory], 1), memory
        outputs: list[Tensor] = []
        for frame in x.unflatten(0, (-1, steps)).unbind(1):  # [B, C, h, w]
            memory = self.step(frame, memory)
            outputs.append(memory)
        return torch.cat([passing, torch.stack(outputs, 1).flatten(0, 1)], 1), memory

    def step(self, x: Tensor, memory: Tensor) -> Tensor:
        reset, update = self.ih(torch.cat([x, memory], 1)).chunk(2, 1)
        candidate = self.hh(torch.cat([x, reset * memory], 1))
        return memory + update * (candidate - memory)


class GuidedFilter(nn.Module):
    """Around every low-resolution pixel, fit `target = a · guide + b`, and apply that to the full frame.

    The deep filter has a trained window, and three 1×1 convolutions that also see the decoder's hidden features give
    a; the fast one has no weights.
    """

    def __init__(self, hidden: int, deep: bool) -> None:
        super().__init__()
        self.box_filter: nn.Conv2d | None = None
        self.conv: nn.Sequential | None = None
        self.epsilon = FILTER_EPSILON
        if deep:
            self.box_filter = conv(TARGETS, TARGETS, 3, groups=TARGETS)
            nn.init.constant_(self.box_filter.weight, 1 / 9)
            self.conv = conv_norm(conv(2 * TARGETS + hidden, hidden), relu())
            self.conv.extend(conv_norm(conv(hidden, hidden), relu())).append(conv(hidden, TARGETS, bias=True))

    def forward(self, full: Tensor, low: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
        """`[N, 3, H, W]`, `[N, 3, h, w]`, `[N, 4, h, w]`, `[N, C, h, w]` → the target at full size `[N, 4, H, W]`.

        In half precision the frames come in float32, and only the three convolutions compute in half.
        """
        guide, target = with_mean(low), target.to(low.dtype)
        guide_mean, target_mean, product, square = self.local_means([guide, target, guide * target, guide * guide])
        covariance = product - guide_mean * target_mean
        variance = square - guide_mean * guide_mean
        if self.conv is None:
            a = covariance / (variance + self.epsilon)
        else:
            moments = torch.cat([covariance, variance], 1).to(hidden.dtype)
            a = self.conv(torch.cat([moments, hidden], 1)).to(low.dtype)
        b = target_mean - a * guide_mean
        a = F.interpolate(a, size=full.shape[-2:], mode="bilinear", align_corners=False)
        b = F.interpolate(b, size=full.shape[-2:], mode="bilinear", align_corners=False)
        return a * with_mean(full) + b  # not addcmul, which Core ML's converter does not know

    def local_means(self, images: list[Tensor]) -> list[Tensor]:
        """Mean of each `[N, 4, h, w]` over 3×3 windows, zeros beyond the edges."""
        window = images[0].new_full((4, 1, 3, 3), 1 / 9) if self.box_filter is None else self.box_filter.weight
        # One convolution of 16 channels: on CPU, far faster than one of 4 channels on four times the batch.
        stacked = torch.cat(images, 1)
        means = F.conv2d(stacked, window.to(stacked.dtype).repeat(4, 1, 1, 1), padding=1, groups=16)
        return means.split(4, 1)


def at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def with_mean(frames: Tensor) -> Tensor:
    """`[N, 3, H, W]` → `[N, 4, H, W]`: the frames and the mean of their channels."""
    return torch.cat([frames, frames.mean(1, keepdim=True)], 1)
