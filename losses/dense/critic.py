"""The critic of structured distillation: a self-attention GAN's discriminator over score maps.

1. `scaling` of the input: batchnorm (over this very batch; of one rank, as SKDS and IFVD, or with
   `spans_ranks` of all where the run synchronises, as CIRKD), tanh, rescale (2 (x / 255 - 0.5)) or none;
2. `levels` times a spectrally normalised 4x4 convolution, stride 2, to 64, 128, 256 ... channels, LeakyReLU
   0.1; self-attention after the last two of them;
3. a 4x4 convolution to one channel without padding: a map of scores, one cell at the smallest legal size.
Published: 4 levels, sides of 64 cells or more. Attention costs (H W / 4^n)^2
numbers per image behind level n, for n = levels - 1 and levels.
Liu et al. 2019, https://arxiv.org/abs/1903.04197; structure_knowledge_distillation ce208e1
`networks/sagan_models.py`, `networks/spectral.py`.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcache.losses.formulas.precision import in_float32

Scaling = Literal["batchnorm", "tanh", "rescale", "none"]
LEVELS = 4
KERNEL, SLOPE = 4, 0.1
FIRST_CHANNELS = 64


def smallest_side(levels: int) -> int:
    """Cells that a side of the input must have, so that the last convolution fits: 64 for 4 levels."""
    return KERNEL << levels


class Critic(nn.Module):
    """(B, C, H, W) of any half precision -> float32 scores (B, 1, H', W'). Float64 stays float64."""

    def __init__(
        self,
        in_channels: int,
        *,
        scaling: Scaling = "batchnorm",
        levels: int = LEVELS,
        spans_ranks: bool = False,
    ) -> None:
        super().__init__()
        widths = [in_channels, *(FIRST_CHANNELS * 2**level for level in range(levels))]
        self.scaling: Scaling = scaling
        if scaling == "batchnorm":
            self.norm = _over_ranks(in_channels) if spans_ranks else BatchScale(in_channels)
        self.levels = nn.ModuleList(SpectralConv(before, after) for before, after in pairwise(widths))
        self.attention = nn.ModuleDict(
            {str(level): SelfAttention(widths[level + 1]) for level in range(max(levels - 2, 0), levels)}
        )
        self.last = nn.Conv2d(widths[-1], 1, KERNEL)

    def forward(self, scores_BCHW: Tensor) -> Tensor:
        return in_float32(self._forward)(scores_BCHW)

    def _forward(self, hidden: Tensor) -> Tensor:
        hidden = self._scaled(hidden)
        for level, convolution in enumerate(self.levels):
            hidden = functional.leaky_relu(convolution(hidden), SLOPE)
            if str(level) in self.attention:
                hidden = self.attention[str(level)](hidden)
        scores: Tensor = self.last(hidden)
        return scores

    def _scaled(self, scores_BCHW: Tensor) -> Tensor:
        if self.scaling == "batchnorm":
            normed: Tensor = self.norm(scores_BCHW)
            return normed
        if self.scaling == "tanh":
            return scores_BCHW.tanh()
        return 2 * (scores_BCHW / 255 - 0.5) if self.scaling == "rescale" else scores_BCHW


class BatchScale(nn.Module):
    """Batch normalisation that always uses the statistics of its own batch, of one rank.

    No running statistics: teacher's and student's maps pass through it in turn. Not torch's module, so that
    nobody makes it a synchronised one: that has no second derivative, which the gradient penalty needs.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, map_BCHW: Tensor) -> Tensor:
        return functional.batch_norm(map_BCHW, None, None, self.weight, self.bias, training=True)


def _over_ranks(channels: int) -> nn.BatchNorm2d:
    """The same formula and the same parameters as a layer that a run may synchronise: once differentiable."""
    return nn.BatchNorm2d(channels, track_running_stats=False)


class SpectralConv(nn.Module):
    """4x4 convolution, stride 2, whose weight is divided by an estimate of its largest singular value.

    W is the weight as (out, in * 16). Each forward, in evaluation too, makes one power iteration on the
    buffers, v = unit(W^T u), u = unit(W v), and divides by u^T W v; the gradient flows through W there, u
    and v are constants. Each forward's graph keeps its own u and v.
    """

    u: Tensor
    v: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        fresh = nn.Conv2d(in_channels, out_channels, KERNEL)  # for torch's initialisation
        assert fresh.bias is not None
        self.weight = nn.Parameter(fresh.weight.detach().clone())
        self.bias = nn.Parameter(fresh.bias.detach().clone())
        self.register_buffer("u", _unit(torch.randn(out_channels)))
        self.register_buffer("v", _unit(torch.randn(in_channels * KERNEL**2)))

    def forward(self, map_BCHW: Tensor) -> Tensor:
        flat = self.weight.flatten(1)
        with torch.no_grad():
            v = _unit(flat.T @ self.u)
            u = _unit(flat @ v)
            self.u.copy_(u)
            self.v.copy_(v)
        weight = self.weight / (u @ flat @ v)
        return functional.conv2d(map_BCHW, weight, self.bias, stride=2, padding=1)


class SelfAttention(nn.Module):
    """x + gamma * values mixed over all cells by a softmax of query . key; gamma starts at 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, kernel_size=1)
        self.key = nn.Conv2d(channels, channels // 8, kernel_size=1)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, map_BCHW: Tensor) -> Tensor:
        query_BQN, key_BQN = self.query(map_BCHW).flatten(2), self.key(map_BCHW).flatten(2)
        share_BNN = (query_BQN.transpose(1, 2) @ key_BQN).softmax(2)
        mixed_BCN = self.value(map_BCHW).flatten(2) @ share_BNN.transpose(1, 2)
        mixed: Tensor = self.gamma * mixed_BCN.view_as(map_BCHW) + map_BCHW
        return mixed


def _unit(vector: Tensor) -> Tensor:
    norm: Tensor = vector.norm()
    return vector / (norm + 1e-12)
