"""Needs that an ensemble answers as one: the unweighted float32 mean of its members' values."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from kdcache.cache.errors import BadOption
from kdcache.cache.spec import TensorSpec, members_of

Sources = Mapping[str, tuple[str, ...]]  # need -> what is read for it: itself, or one of every member


def sources_of(names: Iterable[str], needs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What to read for each need of a cache or a teacher that has `names`. What neither is there nor has
    members stays itself, so that whoever reads it says that it is missing."""
    names = tuple(names)
    return {need: members_of(names, need) or (need,) for need in dict.fromkeys(needs)}


def check_alike(sources: Sources, spec_of: Callable[[str], TensorSpec], cache: str) -> None:
    """Raises BadOption when members differ in shape: their mean would mean nothing."""
    for need, names in sources.items():
        shapes = {name: spec_of(name).shape for name in names}
        if len(set(shapes.values())) > 1:
            shown = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
            raise BadOption(
                f"'{need}' would be the mean of the ensemble's members, which differ in shape: {shown}",
                where=f"cache {cache}",
                fix="use a loss that reads logits, or a teacher of one network",
            )


def mean_of(values: Mapping[str, Tensor], sources: Sources) -> dict[str, Tensor]:
    """Need -> its value, or the mean of its members' values; float32."""
    return {
        need: values[names[0]] if len(names) == 1 else torch.stack([values[n].float() for n in names]).mean(0)
        for need, names in sources.items()
    }
