"""Schedules around any loss: a factor in front of a term that depends on the epoch alone.

Common options of every term, in epochs counted from 0:
    stop=E      the term counts nothing from epoch E on, and the task loss has its full weight again (ESKD,
                Cho and Hariharan 2019, https://arxiv.org/abs/1910.01348)
    warmup=E    (e + 1) / E until it is 1 (DKD, ReviewKD: E = 20)
    rampup=E    exp(-5 (1 - e / E)^2) until epoch E (OKDDip: E = 80)
    restore=E   the whole weight is 1 from epoch E on: what `stop` of the other terms sets on the task loss
    decay=E     from 1 at epoch 0 linearly to `decay_to` at epoch E, which then stays
0 switches a schedule off. Several multiply.
"""

import math
from collections.abc import Mapping
from typing import Annotated, NamedTuple, get_type_hints

from kdcache.losses.options import About, NotNegative, OptionSpec, OptionValue, declared


class TermSchedule(NamedTuple):
    """One term's schedules. All zero: the factor is 1 in every epoch."""

    stop: Annotated[NotNegative, About("epoch from which the term is dropped, 0 = never")] = 0.0
    warmup: Annotated[NotNegative, About("epochs of linear growth to the full weight")] = 0.0
    rampup: Annotated[NotNegative, About("epochs of growth as exp(-5 (1 - e/E)^2)")] = 0.0
    decay: Annotated[NotNegative, About("epochs of linear change to `decay_to`")] = 0.0
    decay_to: Annotated[NotNegative, About("share of the weight that is left after `decay`")] = 0.0
    restore: Annotated[NotNegative, About("epoch from which the whole weight is 1, 0 = never")] = 0.0

    def weight(self, weight: float, epoch: int) -> float:
        """The weight in `epoch` of a term whose full weight is `weight`."""
        return 1.0 if self.restore and epoch >= self.restore else weight * self.factor(epoch)

    def factor(self, epoch: int) -> float:
        """What the term's weight is multiplied by in `epoch`."""
        if self.stop and epoch >= self.stop:
            return 0.0
        factor = 1.0
        if self.warmup:
            factor *= min((epoch + 1) / self.warmup, 1.0)
        if self.rampup:
            factor *= math.exp(-5.0 * (1.0 - min(epoch, self.rampup) / self.rampup) ** 2)
        if self.decay:
            factor *= 1.0 + (self.decay_to - 1.0) * min(epoch / self.decay, 1.0)
        return factor

    def written(self, published: "TermSchedule | None" = None) -> dict[str, OptionValue]:
        """The schedules that are on, as options; also those off that the method publishes."""
        default = published or TermSchedule()
        return {n: v for n, v in self._asdict().items() if v or getattr(default, n)}


ALWAYS = TermSchedule()


def schedule_specs() -> dict[str, OptionSpec]:
    """The declarations of the common options above."""
    hints = get_type_hints(TermSchedule, include_extras=True)
    return {
        name: declared(name, hints[name], default, where="losses.schedules")
        for name, default in TermSchedule._field_defaults.items()
    }


def read_schedule(options: Mapping[str, OptionValue]) -> TermSchedule:
    """The schedule among the options of a term."""
    return TermSchedule(**{n: float(options[n]) for n in TermSchedule._fields if n in options})  # type: ignore[arg-type]
