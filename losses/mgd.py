"""Masked generative distillation: hide most of the student's map, generate the teacher's map from it.

1. a = align(student), a 1x1 convolution where the channels differ;
2. y = generator(a * mask), mask 0 on a share `mask_ratio` of the cells, fresh each step;
3. L = 1 / B * sum over channels and cells of (y - teacher)^2, weight 2e-5; companion 3 * cwd(logits, tau=4).
Yang et al. 2022, https://arxiv.org/abs/2205.01529; yzd-v/MGD 2c9da0b. The generator has 18 C^2 weights.
"""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from kdcache.losses.adapters import align, plain_generator
from kdcache.losses.contract import LossTerm, Maps, Reads, same_tap
from kdcache.losses.divergence import summed_square
from kdcache.losses.masks import channel_mask, spatial_mask, uniform_for
from kdcache.losses.options import OptionValue, Share
from kdcache.losses.step_inputs import StepInputs


class MaskedGeneration(LossTerm):
    """`mask=channel` hides whole channels instead of cells (the method's form for classification)."""

    published_weight = 2e-5
    companions = {"cwd": {"tap": "logits", "tau": 4.0, "weight": 3.0}}

    def __init__(
        self,
        maps: Maps,
        *,
        tap: str = "stage4",
        mask_ratio: Share = 0.75,
        mask: Literal["spatial", "channel"] = "spatial",
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
