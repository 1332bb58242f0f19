"""Generative denoise distillation: add noise to the student's map, generate the teacher's map from it.

1. a = align(student), a 1x1 convolution where the channels differ;
2. y = generator(a + noise), noise ~ N(0, 1) of shape (B, 1, H, W), the same in all channels, fresh each step;
3. L = tau^2 / (B C) * sum over images and channels of KL(softmax_HW(t / tau) || softmax_HW(y / tau)).
Several maps have an alignment, a generator and noise each, drawn in their order, and are summed.
The noise has standard deviation 1 whatever the scale of the features. The generator has 18 C^2 weights.
Liu et al. 2024, https://arxiv.org/abs/2401.08332; ZhgLiu/GDD a0fa7ca `distillation/losses/gdd.py`.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor

from kdcache.cache.tasks.table import DETECTION, SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, same_taps
from kdcache.losses.detection.match import tap_pairs
from kdcache.losses.formulas.adapters import align, plain_generator
from kdcache.losses.formulas.divergence import channel_kl
from kdcache.losses.formulas.levels import SAME, at_level, one_or_list, read_shares, shared_sum
from kdcache.losses.options import About, OptionValue, Positive
from kdcache.losses.step_inputs import StepInputs

UNPUBLISHED = "gdd: its weights for several levels are published for RepPoints and Faster R-CNN; here ours"


class GenerativeDenoise(LossTerm):
    """Weight 145 for PSPNet students; `gdd(weight=175)` for DeepLabV3 ones. Defined per micro batch:
    noise is drawn.
    """

    method = Method(
        title="Generative denoise distillation",
        source="Liu et al. 2024, https://arxiv.org/abs/2401.08332",
        code="ZhgLiu/GDD a0fa7ca semanticSeg/mmseg/distillation/losses/gdd.py",
        cacheable="yes, a large map: 34 MB in fp16 at 2048x64x128",
        modules="1x1 convolution where channels differ, two 3x3 convolutions (18 C^2 weights)",
        defaults="weight 145 for PSPNet-R18, 175 for DeepLabV3-R18 (Cityscapes, 512x512 crops); detection: "
        "fpn, weight 65, published for RepPoints with --clip 35",
        published="Cityscapes mIoU PSPNet-R18 69.85 -> 74.67, DeepLabV3-R18 73.20 -> 77.69",
        elsewhere=("retinanet", "fcos", "atss", "gfl"),
    )
    per_micro_batch = "noise is drawn"
    tasks = (SEGMENTATION, DETECTION)
    aliases = {"tap": "taps"}
    task_clip = {DETECTION: 35.0}
    task_settings = {DETECTION: {"taps": "fpn", "weight": 65.0}}
    published_weight = 145.0

    def __init__(
        self,
        maps: Maps,
        *,
        taps: Annotated[str, About("maps of both networks, separated by /")] = "stage4",
        tau: Annotated[Positive, About("temperature, divides the maps before the softmax over cells")] = 4.0,
        shares: Annotated[str, About("factor of each map, separated by /, or the word same")] = SAME,
    ) -> None:
        super().__init__()
        self.pairs, self.notes = tap_pairs("gdd", maps, taps)
        self.shares = read_shares("gdd", shares, len(self.pairs))
        if len(self.pairs) > 1:
            self.notes += (UNPUBLISHED,)
        self.tau = tau
        parts = [
            (align(maps.student[one.student].channels, channels), plain_generator(channels))
            for one in self.pairs
            for channels in [maps.teacher[one.teacher].channels]
        ]
        self.align = one_or_list([aligner for aligner, _ in parts])
        self.generator = one_or_list([generator for _, generator in parts])

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        return same_taps(options)

    def forward(self, inputs: StepInputs, *, noise: Tensor | None = None) -> Tensor:
        """`noise` (B, 1, H, W) takes the place of each drawn one."""
        levels = [self._level(index, inputs, noise) for index in range(len(self.pairs))]
        return shared_sum(levels, self.shares)

    def _level(self, index: int, inputs: StepInputs, noise: Tensor | None) -> Tensor:
        aligned: Tensor = at_level(self.align, index)(inputs.student[self.pairs[index].student])
        if noise is None:
            noise = self.draw_noise(aligned, inputs)
        generated: Tensor = at_level(self.generator, index)(aligned + noise.to(aligned.dtype))
        return channel_kl(generated, inputs.teacher[self.pairs[index].teacher], temperature=self.tau)

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
