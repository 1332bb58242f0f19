"""Af-DCD: rebuild the teacher's last map from a masked student map, contrast channel groups in patches.

1. a = align(student stage 4), a 1x1 convolution where the channels differ;
2. y = generator(a * mask), mask drawn per step (or the centre hidden with mask=fixed);
3. fd  = 1 / B * sum of (y - teacher)^2;
4. ctr = omni-contrast of y against the teacher (`afdcd_contrast.py`), after max-pooling large maps by 4;
5. L = lambda_fd * fd + lambda_ctr * ctr; companion kd(T=1).
The gradient of align and generator is clipped to norm 15.
Modes of the contrast: omni (the method); channel (patches of one cell: negatives are the other groups of
that cell); spatial (one group: negatives are the other cells of the patch). The last is inferred from its
name and figure: the published code has no such form, and with one group its contrast is 0.
Fan et al. 2023, https://arxiv.org/abs/2312.04168; OSVAI/Af-DCD 5b086a7 `losses/ocmgd.py`, `train_ocmgd.py`.
Defaults are the class's and the argument parser's; `presets.py` has the datasets'. Differences by intent:
equal channels need no align (the published class fails there), and CamVid's cut to 44 cells is the largest
multiple of the patch for any size. `pool=auto` and `fit=cut` are ours: published are 4, and an error.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from torch import Tensor
from torch.nn import functional

from kdcache.cache.spec import BadOption, TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, Weighted, same_tap
from kdcache.losses.dense.afdcd_contrast import (
    POOL_FROM_CELLS,
    Fit,
    Negatives,
    Region,
    contrast_region,
    omni_contrast,
)
from kdcache.losses.formulas.adapters import EnhancedGenerator, align, plain_generator
from kdcache.losses.formulas.divergence import summed_square
from kdcache.losses.formulas.masks import centre_mask, spatial_mask, uniform_for
from kdcache.losses.options import About, Count, NotNegative, OptionValue, Pair, Positive, Range, Share
from kdcache.losses.step_inputs import StepInputs

Mode = Literal["omni", "channel", "spatial"]
GROUPS, PATCH = 16, (4, 4)


class DenseContrast(LossTerm):
    """`pool=auto` pools by 4 where both sides have 64 cells; `fit=cut` contrasts the largest legal part
    of the map, `fit=exact` refuses others; `negatives=all` adds same-group vectors of other cells. A
    lambda of 0 leaves its term out. `mode=channel` sets the patch to 1x1, `mode=spatial` (inferred, not
    published) the groups to 1 with all negatives. Defined per micro batch: masks are drawn, except with
    mask=fixed.
    """

    method = Method(
        title="Augmentation-free dense contrastive distillation (Af-DCD)",
        source="Fan et al. 2023, https://arxiv.org/abs/2312.04168",
        code="OSVAI/Af-DCD 5b086a7 losses/ocmgd.py, train_ocmgd.py, train_scripts/",
        cacheable="yes, a large map: 34 MB in fp16 at 2048x64x128",
        modules="1x1 convolution where channels differ, two (enhanced: four) 3x3 convolutions, 18 (36) C^2 "
        "weights, clipped to norm 15",
        defaults="lambda_fd / lambda_ctr / kd: Cityscapes 2e-6 / 5e-3 / 1, VOC 1e-6 / 5e-3 / 1, CamVid "
        "8e-6 / 1e-2 / 1, ADE20K 1e-6 / 4e-2 / 0.5, COCO-Stuff 5e-6 / 5e-3 / 0.5; else 4e-5 / 1e-3 / 1",
        published="mIoU DeepLabV3-R18: Cityscapes 77.03 (74.21), VOC 76.25 (73.21), CamVid 69.27 (66.92), "
        "ADE20K 36.21 (33.91), COCO-Stuff 34.02 (32.60)",
    )
    per_micro_batch = "masks are drawn, except with mask=fixed"
    tasks = (SEGMENTATION,)
    companions = {"kd": {"T": 1.0, "weight": 1.0}}
    clip_norm = 15.0

    def __init__(
        self,
        maps: Maps,
        *,
        tap: Annotated[str, About("map of both networks")] = "stage4",
        lambda_fd: Annotated[NotNegative, About("weight of the reconstruction")] = 4e-5,
        lambda_ctr: Annotated[NotNegative, About("weight of the contrast")] = 1e-3,
        mode: Annotated[Mode, About("what is contrasted; spatial is inferred")] = "omni",
        tau: Annotated[Positive, About("temperature, divides L1 distances")] = 0.07,
        groups: Annotated[Count, About("channel groups per cell")] = GROUPS,
        pool: Annotated[
            int | Literal["auto"], Range(0), About("cells a side pooled to one before the contrast, 0 = none")
        ] = "auto",
        patch: Annotated[Pair, About("cells of a patch")] = PATCH,
        fit: Annotated[Fit, About("maps that patches do not tile: contrast a part or refuse")] = "cut",
        negatives: Annotated[Negatives, About("other groups, or other cells of the same one too")] = "groups",
        mask: Annotated[Literal["random", "fixed"], About("hidden cells: drawn, or the centre")] = "random",
        mask_ratio: Annotated[Share, About("share of cells that is hidden by mask=random")] = 0.75,
        generator: Annotated[Literal["plain", "enhanced"], About("two or four convolutions")] = "plain",
    ) -> None:
        super().__init__()
        teacher = maps.teacher[tap]
        self.tap = tap
        self.lambda_fd, self.lambda_ctr = lambda_fd, lambda_ctr
        self.tau = tau
        self.groups, self.patch, self.negatives = _contrasted(mode, groups, patch, negatives)
        self.pool: int | Literal["auto"] = pool
        self.fit: Fit = fit
        self.mask, self.mask_ratio = mask, mask_ratio
        self._check_contrast(teacher)
        self.align = align(maps.student[tap].channels, teacher.channels)
        enhanced = generator == "enhanced"
        self.generator = (EnhancedGenerator if enhanced else plain_generator)(teacher.channels)

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        return same_tap(options)

    def forward(self, inputs: StepInputs, *, mask: Tensor | None = None) -> dict[str, Weighted]:
        """`mask` (B, 1, H, W) takes the place of the drawn one."""
        aligned: Tensor = self.align(inputs.student[self.tap])
        teacher = inputs.teacher[self.tap]
        if mask is None:
            mask = self.draw_mask(aligned, inputs)
        generated: Tensor = self.generator(aligned * mask.to(aligned.dtype))
        terms = {}
        if self.lambda_fd:
            terms["fd"] = Weighted(summed_square(generated, teacher), self.lambda_fd)
        if self.lambda_ctr:
            terms["ctr"] = Weighted(self.contrast(generated, teacher), self.lambda_ctr)
        return terms

    def contrast(self, generated_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
        """Omni-contrast of the legal region of two equal-sized maps."""
        region = self._region(*generated_BCHW.shape[-2:])
        return omni_contrast(
            _cut(generated_BCHW, region),
            _cut(teacher_BCHW, region),
            tau=self.tau,
            groups=self.groups,
            patch=self.patch,
            negatives=self.negatives,
        )

    def draw_mask(self, aligned_BCHW: Tensor, inputs: StepInputs) -> Tensor:
        if self.mask == "fixed":
            return centre_mask(aligned_BCHW)
        num_images, _, height, width = aligned_BCHW.shape
        return spatial_mask(
            uniform_for(aligned_BCHW, (num_images, 1, height, width), inputs.generator), self.mask_ratio
        )

    def _region(self, height: int, width: int) -> Region:
        return contrast_region(height, width, pool=self.pool, patch=self.patch, fit=self.fit)

    def _check_contrast(self, teacher: TensorSpec) -> None:
        if not self.lambda_ctr:
            return
        height, width, channels = teacher.shape
        if channels % self.groups:
            legal = [n for n in range(1, channels + 1) if channels % n == 0]
            closest = min(legal, key=lambda n: abs(n - self.groups))
            raise BadOption(
                f"{channels} teacher channels do not split into {self.groups} equal groups",
                where="loss term 'afdcd'",
                fix=f"for example afdcd(groups={closest})",
            )
        self.notes = tuple(self._region_notes(height, width))

    def _region_notes(self, height: int, width: int) -> Iterator[str]:
        region = self._region(height, width)
        if self.pool == "auto" and not region.pool:
            yield (
                f"afdcd: no pooling before the contrast, the {height}x{width} map has fewer than "
                f"{POOL_FROM_CELLS} cells on a side"
            )
        high, wide = (height // region.pool, width // region.pool) if region.pool else (height, width)
        if (high, wide) != (region.height, region.width):
            yield (
                f"afdcd: contrasts the first {region.height}x{region.width} of {high}x{wide} cells, the most "
                f"that {self.patch[0]}x{self.patch[1]} patches tile"
            )


def _contrasted(
    mode: Mode, groups: int, patch: tuple[int, int], negatives: Negatives
) -> tuple[int, tuple[int, int], Negatives]:
    """Groups, patch and negatives of a mode. BadOption where an option contradicts the mode."""
    where = "loss term 'afdcd'"
    if mode == "channel":
        if patch not in (PATCH, (1, 1)):
            raise BadOption(
                f"mode=channel contrasts within single cells, not within {patch[0]}x{patch[1]} patches",
                where=where,
                fix="leave patch out, or afdcd(mode=omni) for patches",
            )
        return groups, (1, 1), negatives
    if mode == "spatial":
        if groups not in (GROUPS, 1):
            raise BadOption(
                f"mode=spatial contrasts whole vectors, not {groups} groups",
                where=where,
                fix="leave groups out, or afdcd(mode=omni,negatives=all) for groups",
            )
        if patch == (1, 1):
            raise BadOption(
                "mode=spatial finds no negative in a patch of 1x1 cells",
                where=where,
                fix="a larger patch, such as afdcd(mode=spatial,patch=4)",
            )
        return 1, patch, "all"
    return groups, patch, negatives


def _cut(map_BCHW: Tensor, region: Region) -> Tensor:
    pooled = functional.max_pool2d(map_BCHW, region.pool) if region.pool else map_BCHW
    return pooled[..., : region.height, : region.width]
