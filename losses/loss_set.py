"""The terms of one run as one module: forward them, weigh them, add them up."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcache.losses.contract import LossOutput, LossTerm, Rival, Weighted
from kdcache.losses.plan.table import TASK
from kdcache.losses.schedules import ALWAYS, TermSchedule
from kdcache.losses.step_inputs import LossValues, StepInputs


class WeightedTerm(NamedTuple):
    label: str
    weight: float
    module: LossTerm
    schedule: TermSchedule = ALWAYS


class LossSet(nn.Module):
    """Holds every learned part of the losses, so that one optimiser group, one checkpoint and one DDP
    wrapper do.

    `notes` are sentences to print once. A NaN or infinite total is passed on: the trainer stops the run and
    says where.
    """

    def __init__(self, terms: tuple[WeightedTerm, ...]) -> None:
        super().__init__()
        self.weights = {term.label: term.weight for term in terms}
        self._schedules = {term.label: term.schedule for term in terms}
        self.terms = nn.ModuleDict({term.label: term.module for term in terms})
        # Once where several terms say the same.
        self.notes = tuple(dict.fromkeys(note for term in terms for note in term.module.notes))

    @property
    def clip_norm(self) -> float | None:
        """The smallest published clip norm of the terms that learn; None where none clips."""
        norms = [module.clip_norm for module in self._modules_in_order() if module.clip_norm is not None]
        return min(norms, default=None)

    def clip_gradients(self) -> None:
        """Clip each term's own weights to that term's norm, after unscaling and before the optimiser's
        step.
        """
        for module in self._modules_in_order():
            if module.clip_norm is not None:
                nn.utils.clip_grad_norm_(module.parameters(), module.clip_norm)

    def forward(self, inputs: StepInputs) -> LossValues:
        weighted: dict[str, Tensor] = {}
        unweighted: dict[str, Tensor] = {}
        with torch.no_grad():
            inputs = inputs._replace(prepared=self._prepared(inputs))
        for label, module in self.terms.items():
            factor = self.weight_at(label, inputs.epoch)
            # A dropped term is still reported. With learned parts it keeps a gradient of 0: DDP waits for it.
            with torch.set_grad_enabled(torch.is_grad_enabled() and (factor > 0 or _learns(module))):
                output = module(inputs)
            for name, value in _named(label, output).items():
                unweighted[name] = value.value.detach()
                weighted[name] = value.value * (value.weight * factor)
        total = torch.stack(list(weighted.values())).sum()
        return LossValues(total, {name: value.detach() for name, value in weighted.items()}, unweighted)

    def _prepared(self, inputs: StepInputs) -> object:
        """What the supervised term works out for all terms; None where the run has none."""
        return next((module.prepare(inputs) for label, module in self._labelled() if label == TASK), None)

    @property
    def counts_labels(self) -> bool:
        """Whether the supervised term is a mean over labels that do not all count."""
        return any(label == TASK and module.counts_labels for label, module in self._labelled())

    def count_labels(self, truth: Tensor) -> Tensor:
        """How many labels of a micro batch the supervised term counts, as it says itself."""
        return next(module.count_labels(truth) for label, module in self._labelled() if label == TASK)

    def weight_at(self, label: str, epoch: int) -> float:
        """The weight of a term in `epoch`, its schedule applied."""
        return self._schedules[label].weight(self.weights[label], epoch)

    def rivals(self) -> dict[str, Rival]:
        """Parts with an optimizer of their own, by the label of their term."""
        return {label: rival for label, module in self._labelled() if (rival := module.rival()) is not None}

    def _labelled(self) -> Iterator[tuple[str, LossTerm]]:
        return zip(self.terms, self._modules_in_order(), strict=True)

    def _modules_in_order(self) -> Iterator[LossTerm]:
        for module in self.terms.values():
            assert isinstance(module, LossTerm)
            yield module


def _named(label: str, output: LossOutput) -> Mapping[str, Weighted]:
    if isinstance(output, Tensor):
        return {label: Weighted(output, 1.0)}
    return {f"{label}.{name}": value for name, value in output.items()}


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
