"""One loss on several maps: a learned part per map, a factor per map, their sum.

A term on one map keeps its learned part under its own name, so that runs from before there were lists open.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdcache.cache.spec import BadOption

SAME = "same"  # of an option `shares`: every map counts alike


def one_or_list(modules: Sequence[nn.Module]) -> nn.Module:
    """The one module, or the list of them."""
    return modules[0] if len(modules) == 1 else nn.ModuleList(modules)


def at_level(module: nn.Module, index: int) -> nn.Module:
    """What `one_or_list` was given at `index`."""
    return module[index] if isinstance(module, nn.ModuleList) else module


def read_shares(term: str, text: str, count: int) -> tuple[float, ...]:
    """The factors of `count` maps: '1/1/0.5', or the word same. BadOption for anything else."""
    if text == SAME:
        return (1.0,) * count
    try:
        shares = tuple(float(part) for part in text.split("/"))
    except ValueError:
        shares = ()
    if len(shares) != count or not all(0 <= share < float("inf") for share in shares):
        raise BadOption(
            f"'{text}' is not one number from 0 for each of the {count} maps",
            where=f"loss term '{term}', option shares",
            fix=f"write {term}(shares={'/'.join(['1'] * count)}), or shares={SAME}",
        )
    return shares


def shared_sum(values: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Sum of scalars, each times its share."""
    return torch.stack([value * share for value, share in zip(values, shares, strict=True)]).sum()
