"""What a run reports while it runs: plain records for one callable. Who shows them is not said here.

Events are sent on rank 0 only, in the order of their steps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """Sent once, before step 0 or before the first step after a resume."""

    run: str
    start: int  # first step that will run
    steps: int  # one past the last step
    summary: Mapping[str, str]  # what was resolved: student, views, cache, loss, steps ... in printing order
    loss_rows: tuple[tuple[str, ...], ...]  # LossPlan.table(): one row per term
    notes: tuple[str, ...]  # sentences that a user should read once


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsDone:
    """A few finished steps: their mean loss terms, and where the time went."""

    step: int  # last finished step, from 0
    terms: Mapping[str, float]  # 'total' and one entry per term
    lr: float
    steps_per_s: float
    wait_share: float  # 0..1, share of the time spent waiting for the stream
    skipped: int = 0  # of all steps so far, those left out because they were not finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """The student on a split, at the end of step `step`."""

    step: int
    split: str
    metrics: Mapping[str, float]
    best: bool  # the best so far on this split
    note: str = ""  # why there are no figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint is on disk."""

    step: int  # number of finished steps it holds
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    run_dir: str
    steps: int
    metrics: Mapping[str, float]  # of the exported student
    score_name: str  # which of them, behind 'best/' and 'final/', chooses the best student
    notes: tuple[str, ...]
    skipped: int = 0  # steps that were left out because they were not finite


Event = RunStarted | StepsDone | Evaluated | Saved | RunFinished
Listen = Callable[[Event], None]


def silent(event: Event) -> None:
    """Listen to nothing."""
    del event
