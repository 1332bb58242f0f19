"""Generative denoise distillation: add noise to the student's map, generate the teacher's map from it.

1. a = align(student), a 1x1 convolution where the channels differ;
2. y = generator(a + noise), noise ~ N(0, 1) of shape (B, 1, H, W), the same in all channels, fresh each step;
3. L = tau^2 / (B C) * sum over images and channels of KL(softmax_HW(t / tau) || softmax_HW(y / tau)).
The noise has standard deviation 1 whatever the scale of the features. The generator has 18 C^2 weights.
Liu et al. 2024, https://arxiv.org/abs/2401.08332; ZhgLiu/GDD a0fa7ca `distillation/losses/gdd.py`.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor

from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, same_tap
from kdcache.losses.formulas.adapters import align, plain_generator
from kdcache.losses.formulas.divergence import channel_kl
from kdcache.losses.options import About, OptionValue, Positive
from kdcache.losses.step_inputs import StepInputs


class GenerativeDenoise(LossTerm):
    """Weight 145 for PSPNet students; `gdd(weight=175)` for DeepLabV3 ones."""

    method = Method(
        title="Generative denoise distillation",
        source="Liu et al. 2024, https://arxiv.org/abs/2401.08332",
        code="ZhgLiu/GDD a0fa7ca semanticSeg/mmseg/distillation/losses/gdd.py",
        cacheable="yes, a large map: 34 MB in fp16 at 2048x64x128",
        modules="1x1 convolution where channels differ, two 3x3 convolutions (18 C^2 weights)",
        defaults="weight 145 for PSPNet-R18, 175 for DeepLabV3-R18 (Cityscapes, 512x512 crops)",
        published="Cityscapes mIoU PSPNet-R18 69.85 -> 74.67, DeepLabV3-R18 73.20 -> 77.69",
    )
    tasks = (SEGMENTATION,)
    published_weight = 145.0

    def __init__(
        self,
        maps: Maps,
        *,
        tap: Annotated[str, About("map of both networks")] = "stage4",
        tau: Annotated[Positive, About("temperature, divides the maps before the softmax over cells")] = 4.0,
    ) -> None:
        super().__init__()
        channels = maps.teacher[tap].channels
        self.tap = tap
        self.tau = tau
        self.align = align(maps.student[tap].channels, channels)
        self.generator = plain_generator(channels)

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        return same_tap(options)

    def forward(self, inputs: StepInputs, *, noise: Tensor | None = None) -> Tensor:
        """`noise` (B, 1, H, W) takes the place of the drawn one."""
        aligned: Tensor = self.align(inputs.student[self.tap])
        if noise is None:
            noise = self.draw_noise(aligned, inputs)
        generated: Tensor = self.generator(aligned + noise.to(aligned.dtype))
        return channel_kl(generated, inputs.teacher[self.tap], temperature=self.tau)

    def draw_noise(self, aligned_BCHW: Tensor, inputs: StepInputs) -> Tensor:
        """In float32, so that runs in other precisions see the same."""
        num_images, _, height, width = aligned_BCHW.shape
        generator = inputs.generator
        drawn = torch.randn(
            (num_images, 1, height, width),
            generator=generator,
            device=generator.device,
            dtype=torch.float32,
        )
        return drawn.to(aligned_BCHW.device)
