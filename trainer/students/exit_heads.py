"""Exits: small heads on the stages of a network, with embeddings as wide as its own.

bottleneck: 1x1 convolution to D/4, k x k convolution of stride k to the last stage's size, 1x1 to D, each
with BatchNorm and ReLU; mean over the map; linear. Convolutions with bias, weights Kaiming normal, fan out.
(luanyunteng/pytorch-be-your-own-teacher, after Zhang et al. 2019, https://arxiv.org/abs/1905.08094.)
attention: the stage map times a gate, then one separable block per later stage, at that stage's stride and
width; mean; linear. (ArchipLab-LinfengZhang/pytorch-self-distillation-final, the journal form of the same.)
Axes: B rows, C channels, H W cells, D width of the embedding, K classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate

from kdcache.cache.spec import TensorSpec


class Exit(nn.Module):
    """A stage's map to ('embedding' (B, D), 'logits' (B, K))."""

    def __init__(self, body: nn.Module, width: int, num_classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, num_classes)

    def forward(self, map_BCHW: Tensor) -> dict[str, Tensor]:
        embedding_BD: Tensor = self.body(map_BCHW).mean((2, 3))
        return {"embedding": embedding_BD, "logits": self.head(embedding_BD)}


def bottleneck_exit(stages: Sequence[TensorSpec], *, width: int, num_classes: int) -> Exit:
    """`stages`: the exit's own stage and all later ones."""
    factor = stages[-1].stride // stages[0].stride
    narrow = max(1, width // 4)
    body = nn.Sequential(
        *_conv_unit(stages[0].channels, narrow, 1),
        *_conv_unit(narrow, narrow, factor),
        *_conv_unit(narrow, width, 1),
    )
    return Exit(body, width, num_classes)


def attention_exit(stages: Sequence[TensorSpec], *, width: int, num_classes: int) -> Exit:
    """`stages`: the exit's own stage and all later ones; the last block has `width` channels."""
    channels = [stage.channels for stage in stages[:-1]] + [width]
    strides = [later.stride // earlier.stride for earlier, later in zip(stages, stages[1:], strict=False)]
    blocks = [
        separable(channels[i], channels[i + 1], stride=min(stride, 2)) for i, stride in enumerate(strides)
    ]
    return Exit(nn.Sequential(Gate(stages[0].channels), *blocks), width, num_classes)


class Gate(nn.Module):
    """The map times sigmoid of itself seen at half the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.look = nn.Sequential(
            separable(channels, channels, stride=2), nn.BatchNorm2d(channels), nn.ReLU()
        )

    def forward(self, map_BCHW: Tensor) -> Tensor:
        size = (map_BCHW.shape[2], map_BCHW.shape[3])
        seen = interpolate(self.look(map_BCHW), size=size, mode="bilinear", align_corners=False)
        gated: Tensor = map_BCHW * seen.sigmoid()
        return gated


def separable(in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential:
    """Depthwise 3x3 at `stride`, 1x1, BatchNorm, ReLU; depthwise 3x3, 1x1, BatchNorm, ReLU. No bias."""
    return nn.Sequential(
        *_separable_half(in_channels, in_channels, stride), *_separable_half(in_channels, out_channels, 1)
    )


def _separable_half(in_channels: int, out_channels: int, stride: int) -> tuple[nn.Module, ...]:
    depthwise = nn.Conv2d(
        in_channels, in_channels, 3, stride=stride, padding=1, groups=in_channels, bias=False
    )
    pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    return depthwise, pointwise, nn.BatchNorm2d(out_channels), nn.ReLU()


def _conv_unit(in_channels: int, out_channels: int, kernel: int) -> tuple[nn.Module, ...]:
    """Convolution whose stride is its kernel, BatchNorm, ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride=kernel)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv, nn.BatchNorm2d(out_channels), nn.ReLU()
