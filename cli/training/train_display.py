"""How a training run talks to a person: a live line on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Mapping
from types import TracebackType

from kdcache.cli.terminal import Table, Terminal
from kdcache.trainer.events import Evaluated, Event, RunFinished, RunStarted, Saved, StepsDone
from kdcache.trainer.judge.metrics import shown

PLAIN_EVERY_S = 60.0  # a log file gets a line this often instead of a live one


class TrainDisplay:
    """Listens to a run; use as a context manager around it, and pass it as `listen`."""

    def __init__(self, terminal: Terminal, *, plain_every_s: float = PLAIN_EVERY_S) -> None:
        self.terminal = terminal
        self._plain_every_s = plain_every_s
        self._last_line_s = -plain_every_s  # so that the first steps show at once
        self._steps = 0
        self._unsaid: StepsDone | None = None  # the last steps, where no line told them
        self._bar = terminal.bar("step", "state")
        self._task = self._bar.add_task("train", total=None)

    def __enter__(self) -> "TrainDisplay":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._started(event)
        elif isinstance(event, StepsDone):
            self._stepped(event)
        elif isinstance(event, Evaluated):
            best = " (best so far)" if event.best else ""
            figures = (
                f"{event.note}: no figures, never the best" if event.note else metrics_text(event.metrics)
            )
            self.terminal.say(f"step {event.step}: {event.split} {figures}{best}")
        elif isinstance(event, Saved):
            pass  # a line per checkpoint says nothing that the next --resume does not
        else:
            self._finished(event)

    def _started(self, event: RunStarted) -> None:
        self._steps = event.steps
        self.terminal.say(f"run {event.run}", style="bold")
        for title, value in event.summary.items():
            self.terminal.say(f"  {title:<10} {value}")
        if event.loss_rows:
            self.terminal.show(loss_table(event.loss_rows))
        for note in event.notes:
            self.terminal.say(f"  note: {note}")
        if event.start:
            self.terminal.say(f"continues after step {event.start}")
        self._bar.update(self._task, total=event.steps, completed=event.start)
        self._bar.start()

    def _stepped(self, event: StepsDone) -> None:
        self._bar.update(self._task, completed=event.step, said=short_state(event))
        self._unsaid = event
        now = time.monotonic()
        if not self.terminal.is_live and now - self._last_line_s >= self._plain_every_s:
            self._last_line_s = now
            self._say_steps(event)

    def _say_steps(self, event: StepsDone) -> None:
        left_s = (self._steps - event.step) / event.steps_per_s if event.steps_per_s > 0 else math.inf
        left = f", {duration(left_s)} left" if 0 < left_s < math.inf else ""
        self.terminal.say(f"step {event.step}/{self._steps} {state_text(event)}{left}")
        self._unsaid = None

    def _finished(self, event: RunFinished) -> None:
        self._bar.stop()
        if self._unsaid is not None:  # a bar is gone, and a log file has not heard of the last minute
            self._say_steps(self._unsaid)
        told = ("step", event.score_name)  # of the best student and of the last one
        figures = {k: v for k, v in event.metrics.items() if k.rpartition("/")[2] in told}
        self.terminal.say(f"finished {event.steps} steps: {event.run_dir}", style="bold")
        if event.skipped:
            self.terminal.say(f"  {event.skipped} of {event.steps} steps were not finite and were left out")
        if figures:
            self.terminal.say(f"  {metrics_text(figures)}")


def loss_table(rows: tuple[tuple[str, ...], ...]) -> Table:
    """Terms, weights, taps and options; the first row is the heading."""
    table = Table(*rows[0], box=None, pad_edge=False, padding=(0, 2, 0, 2))
    for row in rows[1:]:
        table.add_row(*row)
    return table


def short_state(event: StepsDone) -> str:
    """'loss 1.234  wait 2%', for the end of a line of 80 columns."""
    skipped = f"  {event.skipped} left out" if event.skipped else ""
    return f"loss {event.terms['total']:.4g}  wait {event.wait_share:.0%}{skipped}"


def duration(seconds: float) -> str:
    """'45 s', '12 min', '3 h 20 min'."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def state_text(event: StepsDone) -> str:
    """'loss 1.234 (task 1.1, kd 0.13) lr 0.02 3.4 steps/s, 2% waiting'."""
    terms = ", ".join(f"{name} {value:.4g}" for name, value in event.terms.items() if name != "total")
    return (
        f"loss {event.terms['total']:.4g} ({terms}) lr {event.lr:.3g}  "
        f"{event.steps_per_s:.3g} steps/s, {event.wait_share:.0%} waiting for the stream"
        + (f", {event.skipped} steps not finite and left out" if event.skipped else "")
    )


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Ratios as percent, the others in their unit, steps as they are."""
    return ", ".join(f"{name} {shown(name, value)}" for name, value in metrics.items())
