"""Masked generative distillation: hide most of the student's map, generate the teacher's map from it.

1. a = align(student), a 1x1 convolution where the channels differ;
2. y = generator(a * mask), mask 0 on a share `mask_ratio` of the cells, fresh each step;
3. L = 1 / B * sum over channels and cells of (y - teacher)^2.
Segmentation: weight 2e-5, share 0.75, companion 3 * cwd(logits, tau=4). Classification: whole channels are
hidden, share 0.15, weight 7e-5, no companion.
Yang et al. 2022, https://arxiv.org/abs/2205.01529; yzd-v/MGD 2c9da0b. The generator has 18 C^2 weights.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from torch import Tensor

from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, same_tap
from kdcache.losses.formulas.adapters import align, plain_generator
from kdcache.losses.formulas.divergence import summed_square
from kdcache.losses.formulas.masks import channel_mask, spatial_mask, uniform_for
from kdcache.losses.options import About, OptionValue, Share
from kdcache.losses.step_inputs import StepInputs


class MaskedGeneration(LossTerm):
    """`mask=channel` hides whole channels instead of cells (the method's form for classification)."""

    method = Method(
        title="Masked generative distillation",
        source="Yang et al. 2022, https://arxiv.org/abs/2205.01529",
        code="yzd-v/MGD 2c9da0b seg and cls FeatureLoss",
        cacheable="yes, a large map: 34 MB in fp16 at 2048x64x128",
        modules="1x1 convolution where channels differ, two 3x3 convolutions (18 C^2 weights)",
        defaults="segmentation: share 0.75, weight 2e-5, cwd 3; classification: mask channel, share 0.15, "
        "weight 7e-5",
        published="Cityscapes mIoU (512x512) PSPNet-R18 69.85 -> 73.63, DeepLabV3-R18 73.20 -> 76.31",
    )
    published_weight = 2e-5
    companions = {"cwd": {"tap": "logits", "tau": 4.0, "weight": 3.0}}
    task_settings = {CLASSIFICATION: {"mask": "channel", "mask_ratio": 0.15, "weight": 7e-5, "cwd": 0.0}}

    def __init__(
        self,
        maps: Maps,
        *,
        tap: Annotated[str, About("map of both networks")] = "stage4",
        mask_ratio: Annotated[Share, About("share of cells or channels that is hidden")] = 0.75,
        mask: Annotated[
            Literal["spatial", "channel"], About("what is hidden: cells or channels")
        ] = "spatial",
    ) -> None:
        super().__init__()
        channels = maps.teacher[tap].channels
        self.tap = tap
        self.mask_ratio = mask_ratio
        self.mask = mask
        self.align = align(maps.student[tap].channels, channels)
        self.generator = plain_generator(channels)

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        return same_tap(options)

    def forward(self, inputs: StepInputs, *, mask: Tensor | None = None) -> Tensor:
        """`mask` takes the place of the drawn one: (B, 1, H, W), or (B, C, 1, 1) for mask=channel."""
        aligned: Tensor = self.align(inputs.student[self.tap])
        if mask is None:
            mask = self.draw_mask(aligned, inputs)
        generated: Tensor = self.generator(aligned * mask.to(aligned.dtype))
        return summed_square(generated, inputs.teacher[self.tap])

    def draw_mask(self, aligned_BCHW: Tensor, inputs: StepInputs) -> Tensor:
        num_images, channels, height, width = aligned_BCHW.shape
        if self.mask == "channel":
            drawn = uniform_for(aligned_BCHW, (num_images, channels, 1, 1), inputs.generator)
            return channel_mask(drawn, self.mask_ratio)
        drawn = uniform_for(aligned_BCHW, (num_images, 1, height, width), inputs.generator)
        return spatial_mask(drawn, self.mask_ratio)
