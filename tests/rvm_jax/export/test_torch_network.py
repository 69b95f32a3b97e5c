"""The PyTorch network against itself: scripted, frozen, chunked. Its numbers are tested against reference data."""

import functools
import math

import pytest
import torch
from torch import Tensor, nn

from rvm_jax.errors import InputError
from rvm_jax.export.torch_network import GuidedFilter, HalfConvGRU, MattingNetwork, with_mean
from rvm_jax.model.variants import REFINERS, VARIANTS, Refiner, ResNet, Variant

# PyTorch 2.13 announces that TorchScript will go, but that is what many deployments load today.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.usefixtures("one_thread"),
]

TINY = VARIANTS["tiny"]
TINY_RESNET = Variant("tiny_resnet", ResNet(6, (8, 12, 16, 20), (1, 2, 1, 3)), aspp=10, decoder=(12, 8, 6, 4))
both_variants = pytest.mark.parametrize("variant", [TINY, TINY_RESNET], ids=lambda variant: variant.name)
every_refiner = pytest.mark.parametrize("refiner", REFINERS)


@functools.cache
def network(variant: Variant = TINY, refiner: Refiner = "deep_guided_filter") -> MattingNetwork:
    """In float64 and eval mode, with weights under which memory, input and BatchNorm all show in the result."""
    net = MattingNetwork(variant, refiner).double().eval()
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module is not net.refiner.box_filter:
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    with torch.no_grad():
        net.project_mat.conv.weight.mul_(0.2)
        net.project_mat.conv.bias.copy_(torch.tensor([0, 0, 0, 0.5]))
    return net


@functools.cache
def scripted(variant: Variant, refiner: Refiner) -> torch.jit.ScriptModule:
    return torch.jit.script(network(variant, refiner))


def video(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def assert_same(given: list[Tensor], expected: list[Tensor], atol: float = 1e-12) -> None:
    assert len(given) == len(expected)
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=atol)


@torch.no_grad()
def assert_same_networks(one, other, shape: tuple[int, ...], atol: float = 1e-12, **options) -> None:
    """On frames without state, and then on the same frames with the state of the first pass."""
    src = video(*shape)
    first = one(src, **options)
    assert_same(other(src, **options), first, atol)
    state = first[-4:]
    second = one(src, *state, **options)
    assert (second[0] - first[0]).abs().max() > 1e-3, "the state changes nothing"
    assert_same(other(src, *state, **options), second, atol)


every_pass = pytest.mark.parametrize(
    "options",
    [{}, {"downsample_ratio": 0.4}, {"segmentation_pass": True}, {"downsample_ratio": 0.4, "segmentation_pass": True}],
    ids=["full", "refined", "segmentation", "low_segmentation"],
)
every_rank = pytest.mark.parametrize("shape", [(2, 3, 3, 61, 83), (2, 3, 61, 83)], ids=["clip", "frame"])


@every_pass
@every_rank
@every_refiner
def test_scripted_is_the_same(refiner, shape, options):
    assert_same_networks(network(TINY, refiner), scripted(TINY, refiner), shape, **options)


@every_refiner
def test_scripted_resnet_is_the_same(refiner):
    one, other = network(TINY_RESNET, refiner), scripted(TINY_RESNET, refiner)
    assert_same_networks(one, other, (1, 2, 3, 61, 83), downsample_ratio=0.4)


@both_variants
@every_refiner
def test_frozen_is_the_same(variant, refiner):
    frozen = torch.jit.freeze(scripted(variant, refiner))  # folds BatchNorm into the convolutions, so rounds otherwise
    for shape in (2, 3, 3, 61, 83), (2, 3, 61, 83):
        assert_same_networks(network(variant, refiner), frozen, shape, atol=1e-9, downsample_ratio=0.4)


def test_scripted_has_the_same_entries():
    given, expected = scripted(TINY, "deep_guided_filter").state_dict(), network().state_dict()
    assert given.keys() == expected.keys()


def test_scripted_trains_the_same():
    eager = MattingNetwork(TINY).double().train()
    script = torch.jit.script(eager)  # shares the parameters, which have one gradient
    src = video(1, 2, 3, 64, 64)
    gradients = []
    for net in eager, script:
        fgr, pha, *_ = net(src, downsample_ratio=0.5)
        eager.zero_grad()
        (fgr.square().mean() + pha.mean()).backward()
        gradients.append([p.grad for p in eager.parameters() if p.grad is not None])
    assert_same(gradients[1], gradients[0])


@both_variants
@pytest.mark.parametrize("chunks", [(2, 1), (1, 1, 1), (1, 2)])
@torch.no_grad()
def test_chunks_are_the_whole_clip(variant, chunks):
    net, src = network(variant), video(2, 3, 3, 61, 83)
    fgr, pha, *state = net(src, downsample_ratio=0.4)
    rec: list[Tensor | None] = [None] * 4
    parts = []
    for chunk in src.split(chunks, 1):
        *part, r1, r2, r3, r4 = net(chunk, *rec, downsample_ratio=0.4)
        rec = [r1, r2, r3, r4]
        parts.append(part)
    assert_same([torch.cat(outputs, 1) for outputs in zip(*parts, strict=True)], [fgr, pha])
    assert_same(rec, state)


@every_pass
@torch.no_grad()
def test_clip_of_one_is_the_frame(options):
    src = video(2, 3, 61, 83)
    *frame, r1, r2, r3, r4 = network()(src, **options)
    *clip, c1, c2, c3, c4 = network()(src[:, None], **options)
    assert_same([output[:, 0] for output in clip], frame)
    assert_same([c1, c2, c3, c4], [r1, r2, r3, r4])


@torch.no_grad()
def test_clips_of_a_batch_do_not_mix():
    src = video(2, 3, 3, 61, 83)
    both = network()(src, downsample_ratio=0.4)
    for i in range(2):
        assert_same([output[i : i + 1] for output in both], network()(src[i : i + 1], downsample_ratio=0.4))


@both_variants
@pytest.mark.parametrize(("ratio", "low"), [(1, (61, 83)), (0.4, (24, 33)), (0.3, (18, 24))])
@torch.no_grad()
def test_sizes(variant, ratio, low):
    fgr, pha, *state = network(variant)(video(2, 3, 3, 61, 83), downsample_ratio=ratio)
    assert fgr.shape == (2, 3, 3, 61, 83)
    assert pha.shape == (2, 3, 1, 61, 83)
    for output in fgr, pha:
        assert output.min() >= 0
        assert output.max() <= 1
        assert ((output > 0) & (output < 1)).float().mean() > 0.2, "these weights show little"
    expected = [
        (2, channels, *(math.ceil(size / scale) for size in low))
        for channels, scale in zip(variant.state_features, (2, 4, 8, 16), strict=True)
    ]
    assert [tuple(r.shape) for r in state] == expected
    seg, *_ = network(variant)(video(2, 3, 3, 61, 83), downsample_ratio=ratio, segmentation_pass=True)
    assert seg.shape == (2, 3, 1, *low)
    assert seg.min() < 0


@torch.no_grad()
def test_downsampling_steps_by_the_ratio():
    """Not by the quotient of the sizes, which is another number where the low size was rounded down."""
    seen = []
    net = network()
    hook = net.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ramp = torch.arange(83, dtype=torch.float64).expand(1, 3, 61, 83)
    net(ramp, downsample_ratio=0.3)
    hook.remove()
    expected = (torch.arange(24, dtype=torch.float64) + 0.5) / 0.3 - 0.5
    assert_same(seen, [expected.expand(1, 3, 18, 24)])


@every_refiner
@torch.no_grad()
def test_half_precision_is_near(refiner):
    """Also where a frame is nearly flat, which is what the guided filter divides by."""
    net, half = MattingNetwork(TINY, refiner).eval(), MattingNetwork(TINY, refiner).eval()
    for one in net, half:
        one.load_state_dict(network(TINY, refiner).state_dict())
    half.half()
    src = (0.6 + 0.1 * (video(1, 3, 61, 83) - 0.5)).float()
    state, half_state = [None] * 4, [None] * 4
    for _ in range(3):
        *expected, r1, r2, r3, r4 = net(src, *state, downsample_ratio=0.4)
        *given, h1, h2, h3, h4 = half(src.half(), *half_state, downsample_ratio=0.4)
        state, half_state = [r1, r2, r3, r4], [h1, h2, h3, h4]
        assert {output.dtype for output in (*given, *half_state)} == {torch.half}
        assert_same([x.float() for x in (*given, *half_state)], [*expected, *state], 5e-3)


@both_variants
@torch.no_grad()
def test_no_state_is_a_state_of_zeros(variant):
    src = video(2, 3, 61, 83)
    expected = network(variant)(src)
    zeros = [torch.zeros_like(r) for r in expected[-4:]]
    assert_same(network(variant)(src, *zeros), expected)


@torch.no_grad()
def test_gates_of_the_gru():
    """Reset comes first, and the update gate is the share of the candidate."""
    gru = HalfConvGRU(2).double()
    for parameter in gru.parameters():
        nn.init.zeros_(parameter)
    gru.ih[0].bias.copy_(torch.tensor([-1.0, 2.0]))
    gru.hh[0].weight[:, :, 1, 1] = torch.tensor([0.5, 1.0])  # of the input, of the reset memory
    gru.hh[0].bias.fill_(0.1)
    x, memory = video(1, 2, 4, 5), video(1, 1, 4, 5)
    output, new_memory = gru(x, memory, 1)
    reset, update = 1 / (1 + math.exp(1)), 1 / (1 + math.exp(-2))
    candidate = torch.tanh(0.5 * x[:, 1:] + reset * memory + 0.1)
    assert_same([new_memory], [(1 - update) * memory + update * candidate])
    assert_same([output], [torch.cat([x[:, :1], new_memory], 1)])


@pytest.mark.parametrize(("deep", "atol"), [(True, 1e-7), (False, 2e-3)])  # float32's 1/9; the epsilon
@torch.no_grad()
def test_guided_filter_follows_the_full_size_frame(deep, atol):
    """A low-resolution target that is a line of the frame there is the same line of the full frame."""
    full, low = video(1, 3, 64, 64), video(1, 3, 32, 32)
    refiner = GuidedFilter(hidden=5, deep=deep).double().eval()
    if deep:  # The fit is learned: let it have learned this slope.
        nn.init.zeros_(refiner.conv[6].weight)
        nn.init.constant_(refiner.conv[6].bias, 0.5)
    result = refiner(full, low, 0.5 * with_mean(low) + 0.1, video(1, 5, 32, 32))
    inner = (..., slice(4, -4), slice(4, -4))  # At the edges the windows hold zeros.
    assert_same([result[inner]], [(0.5 * with_mean(full) + 0.1)[inner]], atol)


def trained_groups(**options) -> set[str]:
    """The modules of which every parameter has a gradient; of the others none may have one."""
    net = MattingNetwork(TINY).double().train()
    net.load_state_dict(network().state_dict())
    outputs = net(video(2, 2, 3, 64, 80), **options)[:-4]
    torch.stack([(output * video(*output.shape)).sum() for output in outputs]).sum().backward()
    trained = {
        name: [p.grad is not None and bool(p.grad.any()) for p in module.parameters()]
        for name, module in net.named_children()
    }
    for name, gradients in trained.items():
        assert len(set(gradients)) == 1, f"only some of {name}"
    return {name for name, (any_gradient, *_) in trained.items() if any_gradient}


def test_a_pass_trains_its_modules():
    shared = {"backbone", "aspp", "decoder"}
    assert trained_groups() == {*shared, "project_mat"}
    assert trained_groups(downsample_ratio=0.5) == {*shared, "project_mat", "refiner"}
    assert trained_groups(segmentation_pass=True) == {*shared, "project_seg"}


def test_gradients_are_right():
    """In-place activations and the state included."""
    net = network(TINY_RESNET)

    def loss(src: Tensor, *state: Tensor) -> Tensor:
        fgr, pha, *rec = net(src, *state, downsample_ratio=0.5)
        return torch.stack([(output * video(*output.shape)).sum() for output in (fgr, pha, *rec)]).sum()

    src = video(1, 2, 3, 32, 32)
    with torch.no_grad():
        *_, r1, r2, r3, r4 = net(src, downsample_ratio=0.5)
    inputs = [x.requires_grad_() for x in (src, r1, r2, r3, r4)]
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True, eps=1e-7, atol=1e-4)


@both_variants
def test_entries(variant):
    """The order of the groups, and the forced names that no other part of the network shares."""
    names = list(network(variant).state_dict())
    assert list(dict.fromkeys(name.split(".")[0] for name in names)) == [
        *("backbone", "aspp", "decoder", "project_mat", "project_seg", "refiner"),
    ]
    blocks = [name.split(".")[1] for name in names if name.startswith("decoder.")]
    assert list(dict.fromkeys(blocks)) == ["decode4", "decode3", "decode2", "decode1", "decode0"]
    weights = [name for name in names if name.endswith(("weight", "bias")) and not name.startswith("backbone")]
    assert weights[:12] == [
        *("aspp.aspp1.0.weight", "aspp.aspp1.1.weight", "aspp.aspp1.1.bias", "aspp.aspp2.1.weight"),
        *("decoder.decode4.gru.ih.0.weight", "decoder.decode4.gru.ih.0.bias"),
        *("decoder.decode4.gru.hh.0.weight", "decoder.decode4.gru.hh.0.bias"),
        *("decoder.decode3.conv.0.weight", "decoder.decode3.conv.1.weight", "decoder.decode3.conv.1.bias"),
        "decoder.decode3.gru.ih.0.weight",
    ]


def test_fast_guided_filter_has_no_weights():
    deep, fast = (network(TINY, refiner).state_dict().keys() for refiner in REFINERS)
    assert fast == {name for name in deep if not name.startswith("refiner.")}


def test_batchnorm_constants():
    for variant, expected in (TINY, (1e-3, 0.01)), (TINY_RESNET, (1e-5, 0.1)):
        for name, module in network(variant).named_modules():
            if isinstance(module, nn.BatchNorm2d):
                here = expected if name.startswith("backbone.") else (1e-5, 0.1)
                assert (module.eps, module.momentum) == here, name


def test_layer4_of_the_resnet_is_dilated_after_its_first_block():
    encoder = network(TINY_RESNET).backbone
    assert [block.conv2.dilation for block in encoder.layer4] == [(1, 1), (2, 2), (2, 2)]
    assert [layer[0].conv2.stride for layer in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4)] == [
        *((1, 1), (2, 2), (2, 2), (1, 1)),
    ]


@pytest.mark.parametrize("variant", ["mobilenetv3", "resnet50"])
def test_parameters_of_the_released_networks(variant):
    with torch.device("meta"):
        net = MattingNetwork(variant)
    expected = {"mobilenetv3": 3_748_633, "resnet50": 26_890_461}
    assert sum(p.numel() for p in net.parameters()) == expected[variant]


@pytest.mark.parametrize(
    ("src", "ratio", "message"),
    [
        (torch.rand(3, 64, 64), 1.0, r"src has shape .*\[B, 3, H, W\]"),
        (torch.rand(1, 64, 64, 3), 1.0, r"src has shape .*64, 64, 3"),
        (torch.rand(1, 2, 4, 64, 64), 1.0, "src has shape"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), 1.0, "divide 8-bit frames by 255"),
        (torch.rand(1, 3, 64, 64), 0.0, "downsample_ratio is 0"),
        (torch.rand(1, 3, 64, 64), 2.0, "downsample_ratio is 2"),
    ],
)
def test_wrong_input_is_named(src, ratio, message):
    with pytest.raises(InputError, match=message):
        network()(src, downsample_ratio=ratio)
    with pytest.raises(torch.jit.Error, match=message):
        scripted(TINY, "deep_guided_filter")(src, downsample_ratio=ratio)


def test_unknown_names_are_named():
    with pytest.raises(InputError, match=r"'vgg'.*mobilenetv3, resnet50"):
        MattingNetwork("vgg")
    with pytest.raises(InputError, match=r"'box'.*fast_guided_filter"):
        MattingNetwork("tiny", "box")
