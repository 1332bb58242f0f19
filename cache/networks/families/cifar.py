"""The networks of the CIFAR papers: ResNets of basic blocks and wide ResNets, for images of about 32 pixels.

`resnet20` ... `resnet110` (widths 16, 16, 32, 64), `resnet8x4`, `resnet32x4` (32, 64, 128, 256): He et al.
2016, section 4.2 (arXiv 1512.03385) with the projecting shortcuts (1x1 convolution and BatchNorm) of the
RepDistiller benchmark. `resnet20a` ...: the parameter-free shortcuts of the paper itself (option A).
`wrn-D-W`: Zagoruyko and Komodakis 2016 (arXiv 1605.07146), n = (D - 4) / 6 blocks per stage, widths 16, 16W,
32W, 64W. Their 'sum1'..'sum3' are the sums of the stages, which nothing has normalised (RepDistiller's
features), 'pre1'..'pre3' what the next BatchNorm makes of them (ReviewKD's targets), 'stage1'..'stage3' its
ReLU.
Parameters carry the names of the published checkpoints, so that those load as they are.
Axes: B batch, H and W cells, C channels.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from kdcache.cache.networks.names import NetworkName, wide_size
from kdcache.cache.networks.network import Assembly
from kdcache.cache.networks.normalise import IMAGENET_MEAN, IMAGENET_STD
from kdcache.cache.spec import Task

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)
INPUT_PX = (32, 32)
PROBE_PX = (16, 24)
STRIDE = 4  # of the last stage
STAGES = (1, 2, 3)
# Places of the taps. A stage returns several maps; '#1' is the second.
RESNET_TAPS = {"stem": "relu"} | {
    f"{tap}{stage}": f"layer{stage}{item}" for stage in STAGES for tap, item in (("stage", ""), ("pre", "#1"))
}
WIDE_TAPS = {
    **{"stem": "block1#2", "stage1": "block2#2", "stage2": "block3#2", "stage3": "relu"},
    **{"pre1": "block2#1", "pre2": "block3#1", "pre3": "bn1"},
    **{f"sum{stage}": f"block{stage}" for stage in STAGES},
}


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


class OptionA(nn.Module):
    """The identity at half the resolution, new channels zero on both sides: no parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.pad = (out_channels - in_channels) // 2

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        return F.pad(maps_BCHW[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))


class BasicBlock(nn.Module):
    """(B, in, H, W) -> the block's output after its last ReLU, and before it."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, option_a: bool) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if in_channels != out_channels or stride != 1:
            self.downsample = (
                OptionA(in_channels, out_channels, stride)
                if option_a
                else nn.Sequential(
                    nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
                )
            )

    def forward(self, maps_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        inner_BCHW = F.relu(self.bn1(self.conv1(maps_BCHW)))
        sum_BCHW = self.bn2(self.conv2(inner_BCHW)) + self.downsample(maps_BCHW)
        return F.relu(sum_BCHW), sum_BCHW


class Stage(nn.Sequential):
    """Basic blocks in a row: what the last one returns."""

    def forward(self, maps_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        sum_BCHW = maps_BCHW
        for block in self:
            maps_BCHW, sum_BCHW = block(maps_BCHW)
        return maps_BCHW, sum_BCHW


class CifarResNet(nn.Module):
    """Normalised (B, 3, H, W) -> every tap. `widths` are of the stem and the three stages."""

    def __init__(
        self, num_blocks: int, widths: tuple[int, int, int, int], num_classes: int, *, option_a: bool = False
    ) -> None:
        super().__init__()
        self.form = (num_blocks, widths, num_classes, option_a)
        self.conv1 = conv3x3(3, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        stages = [
            _stage(num_blocks, before, after, 1 if stage == 0 else 2, option_a)
            for stage, (before, after) in enumerate(pairwise(widths))
        ]
        self.layer1, self.layer2, self.layer3 = stages
        self.pool = _pool()
        # The two published families call their classifier differently.
        self.classifier_name = "linear" if option_a else "fc"
        self.add_module(self.classifier_name, nn.Linear(widths[3], num_classes))
        _initialise(self)

    def fresh(self) -> "CifarResNet":
        """A network of the same form with new random weights."""
        num_blocks, widths, num_classes, option_a = self.form
        return CifarResNet(num_blocks, widths, num_classes, option_a=option_a)

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        values = {"stem": self.relu(self.bn1(self.conv1(images_BCHW)))}
        values["stage1"], values["pre1"] = self.layer1(values["stem"])
        values["stage2"], values["pre2"] = self.layer2(values["stage1"])
        values["stage3"], values["pre3"] = self.layer3(values["stage2"])
        values["embedding"] = self.pool(values["stage3"])
        values["logits"] = getattr(self, self.classifier_name)(values["embedding"])
        return values


class WideBlock(nn.Module):
    """(B, in, H, W) -> the block's sum, not normalised yet; its input normalised; the same activated."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.projects = in_channels != out_channels or stride != 1
        if self.projects:
            self.convShortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, sum_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pre_BCHW = self.bn1(sum_BCHW)
        active_BCHW = F.relu(pre_BCHW)
        inner_BCHW = self.conv2(F.relu(self.bn2(self.conv1(active_BCHW))))
        shortcut_BCHW = self.convShortcut(active_BCHW) if self.projects else sum_BCHW
        return shortcut_BCHW + inner_BCHW, pre_BCHW, active_BCHW


class WideStage(nn.Module):
    """The sum of the last block; the input of the first, normalised, and active."""

    def __init__(self, num_blocks: int, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        rest = [WideBlock(out_channels, out_channels, 1) for _ in range(num_blocks - 1)]
        self.layer = nn.Sequential(WideBlock(in_channels, out_channels, stride), *rest)

    def forward(self, sum_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sum_BCHW, pre_BCHW, active_BCHW = self.layer[0](sum_BCHW)
        for block in self.layer[1:]:
            sum_BCHW, _, _ = block(sum_BCHW)
        return sum_BCHW, pre_BCHW, active_BCHW


class WideResNet(nn.Module):
    """Normalised (B, 3, H, W) -> every tap. 'stage1' is what the first convolution of stage 2 reads."""

    classifier_name = "fc"

    def __init__(self, depth: int, factor: int, num_classes: int) -> None:
        super().__init__()
        self.form = (depth, factor, num_classes)
        num_blocks = (depth - 4) // 6
        self.widths = (16, 16 * factor, 32 * factor, 64 * factor)
        self.conv1 = conv3x3(3, self.widths[0])
        self.block1 = WideStage(num_blocks, self.widths[0], self.widths[1], 1)
        self.block2 = WideStage(num_blocks, self.widths[1], self.widths[2], 2)
        self.block3 = WideStage(num_blocks, self.widths[2], self.widths[3], 2)
        self.bn1 = nn.BatchNorm2d(self.widths[3])
        self.relu = nn.ReLU()
        self.pool = _pool()
        self.fc = nn.Linear(self.widths[3], num_classes)
        _initialise(self)
        nn.init.zeros_(self.fc.bias)

    def fresh(self) -> "WideResNet":
        """A network of the same form with new random weights."""
        return WideResNet(*self.form)

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        values = {}
        values["sum1"], _, values["stem"] = self.block1(self.conv1(images_BCHW))
        values["sum2"], values["pre1"], values["stage1"] = self.block2(values["sum1"])
        values["sum3"], values["pre2"], values["stage2"] = self.block3(values["sum2"])
        values["pre3"] = self.bn1(values["sum3"])
        values["stage3"] = self.relu(values["pre3"])
        values["embedding"] = self.pool(values["stage3"])
        values["logits"] = self.fc(values["embedding"])
        return values


def assemble_cifar(
    name: NetworkName, *, num_classes: int, output_stride: int, aux: bool, task: Task
) -> Assembly:
    """Freshly initialised, at stride 4. Taps stem, stage1..3, pre1..3, embedding, logits."""
    del output_stride, aux, task  # one stride, no other head, one task
    wide = wide_size(name.body)
    option_a = name.body.endswith("a")
    model = WideResNet(*wide, num_classes) if wide else _resnet(name.body, num_classes, option_a)
    taps = {
        **(WIDE_TAPS if wide else RESNET_TAPS),
        "embedding": "pool",
        "logits": model.classifier_name,
    }
    return Assembly(
        model=model,
        taps=taps,
        returns={path: tap for tap, path in taps.items()},
        pad_multiple=1,
        # The published option-A networks were trained on ImageNet's statistics.
        mean=IMAGENET_MEAN if option_a else CIFAR_MEAN,
        std=IMAGENET_STD if option_a else CIFAR_STD,
        output_stride=STRIDE,
        input_px=INPUT_PX,
        probe_px=PROBE_PX,
        heads=(model.classifier_name,),
    )


def _resnet(body: str, num_classes: int, option_a: bool) -> CifarResNet:
    depth, _, factor = body.removeprefix("resnet").removesuffix("a").partition("x")
    widths = (32, 64, 128, 256) if factor else (16, 16, 32, 64)
    return CifarResNet((int(depth) - 2) // 6, widths, num_classes, option_a=option_a)


def _stage(num_blocks: int, in_channels: int, out_channels: int, stride: int, option_a: bool) -> Stage:
    rest = [BasicBlock(out_channels, out_channels, 1, option_a) for _ in range(num_blocks - 1)]
    return Stage(BasicBlock(in_channels, out_channels, stride, option_a), *rest)


def _pool() -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))


def _initialise(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
