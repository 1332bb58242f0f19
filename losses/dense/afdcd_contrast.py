"""The omni-contrast of Af-DCD as a pure function, and which part of a map it runs on.

1. tile both maps into patches of ph x pw cells (N = ph pw), split the channels into M groups of D = C / M;
2. d(n, m; n', m') = sum of |s(n, m) - t(n', m')| over D channels, anchors s, teacher vectors t of one patch;
3. l(n, m) = -log( e^(-d(n,m;n,m)/tau) / ( the same + sum over n' and m' != m of e^(-d(n,m;n',m')/tau) ) );
4. L = 1 / (B H W) * sum of l over images, patches, cells and groups: M times the mean over anchors, >= 0.

Cost: B H W N M C absolute differences, and as many again for the gradient. The distances of all patches at
once would take B H W N M^2 numbers (0.5 GB at 44 x 44, 16 images, M 16; the GPU's gradient kernel D times
that), so patches go through in blocks and each block leaves its gradient behind: memory stays at one block
plus one map.
Fan et al. 2023, https://arxiv.org/abs/2312.04168; OSVAI/Af-DCD 5b086a7 `losses/ocmgd.py`. Vectors of the
same group at other cells are in neither set in that code; negatives='all' counts them too.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from kdcache.cache.spec import BadOption
from kdcache.losses.formulas.precision import in_float32

POOL = 4  # published pooling before the contrast
POOL_FROM_CELLS = 64  # the published maps that are pooled have at least this many cells a side
BLOCK_BYTES = {"cpu": 1 << 25, "cuda": 1 << 28}  # distances (on a GPU times D) in flight

Negatives = Literal["groups", "all"]
Fit = Literal["cut", "exact"]


class Region(NamedTuple):
    """What the contrast sees: `pool` (0 = none), then the first `height` x `width` cells."""

    pool: int
    height: int
    width: int


def contrast_region(
    height: int, width: int, *, pool: int | Literal["auto"], patch: tuple[int, int], fit: Fit
) -> Region:
    """The part of an H x W map that patches can tile. BadOption when there is none, or when `fit` forbids
    cutting.
    """
    if pool == "auto":
        pool = POOL if min(height, width) >= POOL_FROM_CELLS else 0
    pooled = (height // pool, width // pool) if pool else (height, width)
    cut = (pooled[0] // patch[0] * patch[0], pooled[1] // patch[1] * patch[1])
    after = f", {pooled[0]}x{pooled[1]} after pooling by {pool}," if pool else ""
    if 0 in cut:
        raise BadOption(
            f"the {height}x{width} map{after} is smaller than one {patch[0]}x{patch[1]} patch",
            where="loss term 'afdcd'",
            fix="use a larger crop or a smaller --output-stride"
            + (
                ", or afdcd(pool=0)"
                if pool
                else f", or a smaller patch such as afdcd(patch={min(height, width)})"
            ),
        )
    if fit == "exact" and cut != pooled:
        raise BadOption(
            f"the {height}x{width} map{after} is not a whole number of {patch[0]}x{patch[1]} patches",
            where="loss term 'afdcd', settings published for one crop size",
            fix=f"use the published crop, or afdcd(fit=cut) to contrast its first {cut[0]}x{cut[1]} cells",
        )
    return Region(pool, *cut)


@in_float32
def omni_contrast(
    student_BCHW: Tensor,
    teacher_BCHW: Tensor,
    *,
    tau: float,
    groups: int,
    patch: tuple[int, int],
    negatives: Negatives = "groups",
) -> Tensor:
    """The loss above. H and W must be multiples of the patch, C of `groups`. One group without
    negatives='all' gives 0.
    """
    num_images, _, height, width = student_BCHW.shape
    summed: Tensor = _BlockwiseContrast.apply(
        patch_vectors(student_BCHW, groups, patch),
        patch_vectors(teacher_BCHW, groups, patch),
        _counted(groups, patch[0] * patch[1], negatives, student_BCHW.device),
        tau,
    )
    return summed / (num_images * height * width)


def patch_vectors(map_BCHW: Tensor, groups: int, patch: tuple[int, int]) -> Tensor:
    """(B, C, H, W) -> (B * patches, N * M, D): every group vector of every cell, patch by patch."""
    num_images, channels, height, width = map_BCHW.shape
    tiled = map_BCHW.reshape(
        num_images, groups, channels // groups, height // patch[0], patch[0], width // patch[1], patch[1]
    )
    return tiled.permute(0, 3, 5, 4, 6, 1, 2).reshape(-1, patch[0] * patch[1] * groups, channels // groups)


def block_contrast(student_PVD: Tensor, teacher_PVD: Tensor, counted_VV: Tensor, tau: float) -> Tensor:
    """Sum of l over the anchors of P patches, V = N M vectors each. The direct form that blocks are made
    of.
    """
    closeness = torch.cdist(student_PVD, teacher_PVD, p=1.0) / -tau
    positive = closeness.diagonal(dim1=1, dim2=2)
    return (closeness.masked_fill(~counted_VV, -torch.inf).logsumexp(2) - positive).sum()


def _counted(groups: int, num_cells: int, negatives: Negatives, device: torch.device) -> Tensor:
    """(V, V) bool: which teacher vectors stand in the denominator of which anchor."""
    group = torch.arange(groups, device=device).repeat(num_cells)
    everything = torch.ones(len(group), len(group), dtype=torch.bool, device=device)
    if negatives == "all":
        return everything
    return (group[:, None] != group[None, :]) | everything.diagonal().diag()


class _BlockwiseContrast(torch.autograd.Function):
    """Sum of `block_contrast` over blocks; its gradient is made in the forward, once, and kept as one map."""

    @staticmethod
    def forward(ctx: Any, student_PVD: Tensor, teacher_PVD: Tensor, counted_VV: Tensor, tau: float) -> Tensor:
        total = student_PVD.new_zeros(())
        gradient = torch.empty_like(student_PVD) if ctx.needs_input_grad[0] else None
        size = _patches_per_block(student_PVD)
        for start in range(0, len(student_PVD), size):
            rows = slice(start, start + size)
            with torch.set_grad_enabled(gradient is not None):
                block = student_PVD[rows].detach().requires_grad_(gradient is not None)
                value = block_contrast(block, teacher_PVD[rows].detach(), counted_VV, tau)
            if gradient is not None:
                (gradient[rows],) = torch.autograd.grad(value, block)
            total += value.detach()
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return grad_total * gradient, None, None, None


def _patches_per_block(student_PVD: Tensor) -> int:
    _, num_vectors, depth = student_PVD.shape
    copies = depth if student_PVD.device.type == "cuda" else 1
    patch_bytes = num_vectors**2 * copies * student_PVD.element_size()
    return max(1, BLOCK_BYTES.get(student_PVD.device.type, 1 << 25) // patch_bytes)
