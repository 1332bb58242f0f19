"""FGD: features of objects apart from those of the background, where the teacher looks, and their relations.

Per level of features F (C, H, W), student's through a 1x1 convolution where the channels differ:
    S = HW * softmax over cells of mean_c |F| / temp     A = C * softmax over channels of mean_hw |F| / temp
    M = 1 / cells of the object (of several the largest), B = 1 / cells of the background, per image
    fg   = 1/N sum S_t A_t M (F_s - F_t)^2                  bg: with B instead of M
    mask = 1/N (sum |A_s - A_t| + sum |S_s - S_t|)
    rela = 1/N sum (G_s(F_s) - G_t(F_t))^2                  G: a context block per side, both learned
    L    = alpha fg + beta bg + gamma mask + lambda rela    N images, summed over levels
An object covers the cells floor(x1) to ceil(x2) inclusive of its box in cells; the cells are counted before
the map cuts them. Published code scales boxes by the unpadded image; here by the canvas, on which they lie.
Yang et al. 2022, https://arxiv.org/abs/2111.11837; yzd-v/FGD c03a6cf `fgd.py`.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor, nn

from kdcache.cache.spec import Need
from kdcache.cache.tasks.table import DETECTION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Reads, Weighted, tap_list
from kdcache.losses.detection.match import canvas_of, tap_pairs
from kdcache.losses.formulas.adapters import align
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.options import About, OptionValue, Range
from kdcache.losses.step_inputs import StepInputs

Number = float | Literal["auto"]
ABOVE_ZERO, FROM_ZERO = Range(0.0, above=True), Range(0.0)


class Settings(NamedTuple):
    """What is published for one kind of student."""

    temp: float
    alpha: float
    beta: float
    gamma: float
    relation: float


ONE_STAGE = Settings(0.5, 1e-3, 5e-4, 5e-4, 5e-6)
BY_ASSIGNER = {"fcos": Settings(0.8, 1.6e-3, 8e-4, 8e-4, 8e-6)}  # where it is not the above


class Masks(NamedTuple):
    """(B, H, W): a cell's share of its object, and of the background; each 0 on the other."""

    objects: Tensor
    background: Tensor


def object_masks(truth_BM5: Tensor, cells: tuple[int, int], canvas: tuple[int, int]) -> Masks:
    """From objects x1 y1 x2 y2 class in pixels of the canvas (height, width); class -1 is padding."""
    (high, wide), (height, width) = cells, canvas
    pixels, counts = truth_BM5.new_tensor([width, height]), truth_BM5.new_tensor([wide, high])
    # Divided first, as published: the other order is off by a rounding, which floor and ceil make a cell.
    first_BM2 = (truth_BM5[..., 0:2] / pixels * counts).floor()
    last_BM2 = (truth_BM5[..., 2:4] / pixels * counts).ceil()
    share_BM = 1 / (last_BM2 + 1 - first_BM2).prod(-1)
    x_W = torch.arange(wide, device=truth_BM5.device)
    y_H = torch.arange(high, device=truth_BM5.device)
    across_BMW = (x_W >= first_BM2[..., 0, None]) & (x_W <= last_BM2[..., 0, None])
    down_BMH = (y_H >= first_BM2[..., 1, None]) & (y_H <= last_BM2[..., 1, None])
    there_BM = truth_BM5[..., 4] >= 0
    inside_BMHW = down_BMH[..., :, None] & across_BMW[..., None, :] & there_BM[..., None, None]
    shares_BMHW = torch.where(inside_BMHW, share_BM[..., None, None], 0.0)
    empty_B1HW = shares_BMHW.new_zeros(len(truth_BM5), 1, high, wide)  # an image without a box has no maximum
    objects_BHW = torch.cat([shares_BMHW, empty_B1HW], dim=1).amax(1)
    background_BHW = (objects_BHW == 0).to(objects_BHW.dtype)
    count_B11 = background_BHW.sum((1, 2), keepdim=True).clamp(min=1)
    return Masks(objects_BHW, background_BHW / count_B11)


def attention(map_BCHW: Tensor, temp: float) -> tuple[Tensor, Tensor]:
    """S (B, H, W) and A (B, C), as above."""
    num_images, channels, high, wide = map_BCHW.shape
    active = map_BCHW.abs()
    spatial = (active.mean(1) / temp).flatten(1).softmax(1).reshape(num_images, high, wide)
    return high * wide * spatial, channels * (active.mean((2, 3)) / temp).softmax(1)


class ContextBlock(nn.Module):
    """x + W2 ReLU(LN(W1 ctx)), ctx the cells of x weighted by a softmax of a learned 1x1 map. W2 begins at
    0, so that the block begins as x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 1)
        self.attend = nn.Conv2d(channels, 1, kernel_size=1)
        self.first = nn.Conv2d(channels, hidden, kernel_size=1)
        self.norm = nn.LayerNorm([hidden, 1, 1])
        self.last = nn.Conv2d(hidden, channels, kernel_size=1)
        nn.init.kaiming_normal_(self.attend.weight, mode="fan_in", nonlinearity="relu")
        for zero in (self.attend.bias, self.last.weight, self.last.bias):
            assert zero is not None
            nn.init.zeros_(zero)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        weights_BN = self.attend(map_BCHW).flatten(1).softmax(1)
        context_BC = torch.einsum("bcn,bn->bc", map_BCHW.flatten(2), weights_BN)
        hidden = self.norm(self.first(context_BC[..., None, None])).relu()
        changed: Tensor = map_BCHW + self.last(hidden)
        return changed


class Level(nn.Module):
    """The learned parts of one level, and its four terms."""

    def __init__(self, student_channels: int, channels: int, temp: float) -> None:
        super().__init__()
        self.temp = temp
        self.align = align(student_channels, channels)
        self.student_context = ContextBlock(channels)
        self.teacher_context = ContextBlock(channels)

    def forward(self, student: Tensor, teacher: Tensor, masks: Masks) -> Tensor:
        return self._terms(student, teacher, masks.objects, masks.background)

    @in_float32
    def _terms(self, student: Tensor, teacher: Tensor, objects: Tensor, background: Tensor) -> Tensor:
        """(4,): fg, bg, mask, rela. All in float32, the context blocks too: sums of squares over a map."""
        student = self.align(student)
        spatial_s, channel_s = attention(student, self.temp)
        spatial_t, channel_t = attention(teacher, self.temp)
        squares = (student - teacher).square()
        # B images, C channels, H W cells
        attended = torch.einsum("bchw,bc,bhw->bhw", squares, channel_t, spatial_t)
        apart = (channel_s - channel_t).abs().sum() + (spatial_s - spatial_t).abs().sum()
        relation = (self.student_context(student) - self.teacher_context(teacher)).square().sum()
        terms = [(attended * objects).sum(), (attended * background).sum(), apart, relation]
        return torch.stack(terms) / len(student)


class FocalGlobal(LossTerm):
    """`auto` is what is published for the student's detector: fcos has numbers of its own."""

    method = Method(
        title="Focal and global knowledge distillation",
        source="Yang et al. 2022, https://arxiv.org/abs/2111.11837",
        code="yzd-v/FGD c03a6cf mmdet/distillation/losses/fgd.py",
        cacheable="yes, large maps: 2.2 MB an image in int8 at 640x640",
        modules="per level two context blocks, a 1x1 convolution where channels differ",
        defaults="one-stage: temp 0.5, alpha 1e-3, beta 5e-4, gamma 5e-4, relation 5e-6; fcos: 0.8, 1.6e-3, "
        "8e-4, 8e-4, 8e-6; published with --clip 35 and --inherit neck+head",
        published="COCO AP RetinaNet-R50 40.7 (37.4), FCOS-R50 42.7 (38.5), GFL-R50 43.5 (40.2)",
        detectors=("retinanet", "fcos", "gfl"),
        elsewhere=("atss",),
    )
    tasks = (DETECTION,)
    clip_norm = 35.0

    def __init__(
        self,
        maps: Maps,
        *,
        taps: Annotated[str, About("maps of both sides, or the group of all levels")] = "fpn",
        temp: Annotated[
            Number, ABOVE_ZERO, About("temperature of the attention over cells, channels")
        ] = "auto",
        alpha: Annotated[Number, FROM_ZERO, About("weight of the objects' cells")] = "auto",
        beta: Annotated[Number, FROM_ZERO, About("weight of the background's cells")] = "auto",
        gamma: Annotated[Number, FROM_ZERO, About("weight of the attention")] = "auto",
        relation: Annotated[Number, FROM_ZERO, About("weight of the context blocks, lambda")] = "auto",
    ) -> None:
        super().__init__()
        self.pairs, self.notes = tap_pairs("fgd", maps, taps)
        chosen = {"temp": temp, "alpha": alpha, "beta": beta, "gamma": gamma, "relation": relation}
        published = _published(maps)
        self.settings = published._replace(
            **{name: float(value) for name, value in chosen.items() if value != "auto"}
        )
        if published != ONE_STAGE and "auto" in chosen.values():
            self.notes += (f"fgd: settings published for {_assigner(maps)} students: {self.settings}",)
        self.canvas = canvas_of(maps)
        self.levels = nn.ModuleList(
            Level(maps.student[one.student].channels, maps.teacher[one.teacher].channels, self.settings.temp)
            for one in self.pairs
        )

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        taps = tap_list(options["taps"])
        return Reads(taps, tuple(Need(tap=tap) for tap in taps))

    def forward(self, inputs: StepInputs) -> LossOutput:
        levels = []
        for one, level in zip(self.pairs, self.levels, strict=True):
            teacher = inputs.teacher[one.teacher]
            masks = object_masks(inputs.truth, (teacher.shape[2], teacher.shape[3]), self.canvas)
            levels.append(level(inputs.student[one.student], teacher, masks))
        fg, bg, mask, rela = torch.stack(levels).sum(0).unbind()
        weights = self.settings
        return {
            "fg": Weighted(fg, weights.alpha),
            "bg": Weighted(bg, weights.beta),
            "mask": Weighted(mask, weights.gamma),
            "rela": Weighted(rela, weights.relation),
        }


def _published(maps: Maps) -> Settings:
    return BY_ASSIGNER.get(_assigner(maps), ONE_STAGE)


def _assigner(maps: Maps) -> str:
    return "" if maps.student_grid is None else maps.student_grid.assigner
