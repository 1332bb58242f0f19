"""Masked generative distillation: hide most of the student's map, generate the teacher's map from it.

1. a = align(student), a 1x1 convolution where the channels differ;
2. y = generator(a * mask), mask 0 on a share `mask_ratio` of the cells, fresh each step;
3. L = 1 / B * sum over channels and cells of (y - teacher)^2.
Segmentation: weight 2e-5, share 0.75, companion 3 * cwd(logits, tau=4). Classification: whole channels are
hidden, share 0.15, weight 7e-5, no companion. Detection: the levels `fpn`, share 0.65, weight 2e-5 (two-stage
detectors 0.45 and 5e-7), no companion. Several maps have an alignment, a generator and a mask each, drawn in
their order, and are summed.
Yang et al. 2022, https://arxiv.org/abs/2205.01529; yzd-v/MGD 2c9da0b. The generator has 18 C^2 weights.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from torch import Tensor

from kdcache.cache.tasks.table import CLASSIFICATION, DETECTION, SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, same_taps
from kdcache.losses.detection.match import tap_pairs
from kdcache.losses.formulas.adapters import align, plain_generator
from kdcache.losses.formulas.divergence import summed_square
from kdcache.losses.formulas.levels import SAME, at_level, one_or_list, read_shares, shared_sum
from kdcache.losses.formulas.masks import channel_mask, spatial_mask, uniform_for
from kdcache.losses.options import About, OptionValue, Share
from kdcache.losses.step_inputs import StepInputs


class MaskedGeneration(LossTerm):
    """`mask=channel` hides whole channels instead of cells (the method's form for classification).
    Defined per micro batch: masks are drawn.
    """

    method = Method(
        title="Masked generative distillation",
        source="Yang et al. 2022, https://arxiv.org/abs/2205.01529",
        code="yzd-v/MGD 2c9da0b seg and cls FeatureLoss",
        cacheable="yes, a large map: 34 MB in fp16 at 2048x64x128",
        modules="1x1 convolution where channels differ, two 3x3 convolutions (18 C^2 weights)",
        defaults="segmentation: share 0.75, weight 2e-5, cwd 3; classification: mask channel, share 0.15, "
        "weight 7e-5; detection: fpn, share 0.65, weight 2e-5, published with --clip 35",
        published="Cityscapes mIoU (512x512) PSPNet-R18 69.85 -> 73.63, DeepLabV3-R18 73.20 -> 76.31",
        detectors=("retinanet",),
        elsewhere=("fcos", "atss", "gfl"),
    )
    per_micro_batch = "masks are drawn"
    tasks = (SEGMENTATION, CLASSIFICATION, DETECTION)
    published_weight = 2e-5
    aliases = {"tap": "taps"}
    task_clip = {DETECTION: 35.0}
    companions = {"cwd": {"taps": "logits", "tau": 4.0, "weight": 3.0}}
    task_settings = {
        CLASSIFICATION: {"mask": "channel", "mask_ratio": 0.15, "weight": 7e-5, "cwd": 0.0},
        DETECTION: {"taps": "fpn", "mask_ratio": 0.65, "cwd": 0.0},
    }

    def __init__(
        self,
        maps: Maps,
        *,
        taps: Annotated[str, About("maps of both networks, separated by /")] = "stage4",
        mask_ratio: Annotated[Share, About("share of cells or channels that is hidden")] = 0.75,
        mask: Annotated[
            Literal["spatial", "channel"], About("what is hidden: cells or channels")
        ] = "spatial",
        shares: Annotated[str, About("factor of each map, separated by /, or the word same")] = SAME,
    ) -> None:
        super().__init__()
        self.pairs, self.notes = tap_pairs("mgd", maps, taps)
        self.shares = read_shares("mgd", shares, len(self.pairs))
        self.mask_ratio = mask_ratio
        self.mask = mask
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

    def forward(self, inputs: StepInputs, *, mask: Tensor | None = None) -> Tensor:
        """`mask` takes the place of each drawn one: (B, 1, H, W), or (B, C, 1, 1) for mask=channel."""
        levels = [self._level(index, inputs, mask) for index in range(len(self.pairs))]
        return shared_sum(levels, self.shares)

    def _level(self, index: int, inputs: StepInputs, mask: Tensor | None) -> Tensor:
        aligned: Tensor = at_level(self.align, index)(inputs.student[self.pairs[index].student])
        if mask is None:
            mask = self.draw_mask(aligned, inputs)
        generated: Tensor = at_level(self.generator, index)(aligned * mask.to(aligned.dtype))
        return summed_square(generated, inputs.teacher[self.pairs[index].teacher])

    def draw_mask(self, aligned_BCHW: Tensor, inputs: StepInputs) -> Tensor:
        num_images, channels, height, width = aligned_BCHW.shape
        if self.mask == "channel":
            drawn = uniform_for(aligned_BCHW, (num_images, channels, 1, 1), inputs.generator)
            return channel_mask(drawn, self.mask_ratio)
        drawn = uniform_for(aligned_BCHW, (num_images, 1, height, width), inputs.generator)
        return spatial_mask(drawn, self.mask_ratio)
