"""The training loop: steps, reports, validation, checkpoints, export; resumable at any moment, exactly.

Order after step n: metrics line -> validation when due -> checkpoint when due -> export when the student is
the best. The best student is exported after the checkpoint that knows of it, so a killed run never keeps an
export that its checkpoint has not heard of; resuming right there exports again.

A signal waits for the end of its step and leaves a checkpoint there. A validation that fails, or that a
signal ends, leaves one that knows that the validation is due: a resumed run begins with it.

The loop itself is `make_steps` (together/rounds.py), which drives one run or several on the same batches.
"""

import math
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn

from kdcache.cache.errors import NotFinite
from kdcache.cache.files.system import touching
from kdcache.cache.processes.progress import arrived
from kdcache.cache.processes.stop import Stopped, asked, finishing
from kdcache.cache.processes.watch import Alone, watching
from kdcache.trainer.config import TrainConfig, write_config
from kdcache.trainer.events import (
    Evaluated,
    Listen,
    RunFinished,
    RunStarted,
    Saved,
    silent,
)
from kdcache.trainer.folder.atomic_file import RUN_AGAIN
from kdcache.trainer.folder.checkpoint import (
    FOLDER,
    Checkpoint,
    going_on,
    load_latest,
    save_checkpoint,
    sweep,
)
from kdcache.trainer.folder.checkpoint_shape import fitting
from kdcache.trainer.folder.environment import describe_environment, refuse_other_stream, write_environment
from kdcache.trainer.folder.metrics_log import MetricsLog
from kdcache.trainer.folder.run_folder import check_free, held
from kdcache.trainer.judge.metrics import Metrics, no_figures_said, plain
from kdcache.trainer.ranks import (
    quiet_trackers,
    ranks_of,
    reset_accelerate,
    start_accelerator,
    start_trackers,
    uses_sync_bn,
)
from kdcache.trainer.reporter import Reporter
from kdcache.trainer.steps.choose import make_stepper
from kdcache.trainer.steps.contract import RunParts
from kdcache.trainer.steps.options import SKIP_NON_FINITE
from kdcache.trainer.steps.schedule import due
from kdcache.trainer.stream.ahead import batches_on
from kdcache.trainer.stream.batch import Batch
from kdcache.trainer.together.rounds import make_steps

Assemble = Callable[[Accelerator], RunParts]


class Training(NamedTuple):
    """What is to be trained, where, and who listens."""

    config: TrainConfig
    run_dir: Path
    assemble: Assemble
    resume: bool = False
    listen: Listen = silent


def train(
    config: TrainConfig, run_dir: Path, assemble: Assemble, *, resume: bool = False, listen: Listen = silent
) -> Mapping[str, float]:
    """Train in `run_dir` and return the metrics of the exported student.

    Raises BadOption when the folder is taken and `resume` is not set, Busy when another process trains there,
    NotFinite when a loss is not a number (the last checkpoint stays), DiskFull and Refused where the system
    refuses a file, LostRank when another rank is gone, Stopped after a signal.
    """
    with touching("the run had to stop", run_dir, again=RUN_AGAIN), quiet_trackers():
        return _train(Training(config, run_dir, assemble, resume, listen))


def _train(what: Training) -> Mapping[str, float]:
    try:
        with ExitStack() as stack:
            stack.callback(reset_accelerate)
            run = open_run(what, stack)
            run.begin()
            with finishing():
                make_steps([run], run.parts.stream, ahead=partial(batches_on, run.ranks.device))
            return run.card
    except Stopped as stop:
        if stop.said:
            raise
        raise Stopped(stop.number, f"no step was made; {going_on(what.run_dir)}") from None


def open_run(what: Training, stack: ExitStack, *, alone: bool = True) -> "Run":
    """A run before its first step, whose folder this process holds; `stack` gives everything back. With
    `alone` it has the process to itself, and all that Accelerate keeps there.
    """
    config, run_dir = what.config, what.run_dir
    if not what.resume:
        check_free(run_dir)
    start = load_latest(run_dir) if what.resume else None
    accelerator = start_accelerator(config, run_dir, start=start.step if start else 0, alone=alone)
    stack.callback(accelerator.end_training)
    fix = partial(going_on, run_dir)
    ranks = stack.enter_context(watching(timeout_s=config.rank_timeout, fix=fix))
    parts = what.assemble(accelerator)
    stack.callback(parts.stream.close)
    if accelerator.is_main_process:
        stack.enter_context(held(run_dir, keep=what.resume))
        sweep(run_dir)
        write_config(run_dir, config, parts.resolved)
    arrived()
    accelerator.wait_for_everyone()
    heard = what.listen if accelerator.is_main_process else silent
    run = Run(config, run_dir, parts, accelerator, start, heard, ranks)
    stack.callback(run.close)
    return run


class Run:
    """One run in this process: what changes while it trains."""

    def __init__(
        self,
        config: TrainConfig,
        run_dir: Path,
        parts: RunParts,
        accelerator: Accelerator,
        start: Checkpoint | None,
        listen: Listen,
        together: Alone,
    ) -> None:
        self.together = together
        self.config, self.run_dir, self.parts, self.listen = config, run_dir, parts, listen
        self.accelerator = accelerator
        self.ranks = ranks_of(accelerator)
        sync_bn, note = uses_sync_bn(config, self.ranks)
        self.stepper = make_stepper(config, parts, accelerator, sync_bn=sync_bn)
        self.first = start.step if start else 0
        self.best: dict[str, float] | None = None  # 'step' and the metrics of the best student so far
        self.last: dict[str, float] = {}  # metrics of the latest validation
        self.no_figures = ""  # why that has none
        self.unjudged = False  # whether the validation of the first step is still due
        self.saved = self.first  # the step of the last checkpoint, where there is one
        self.card: Mapping[str, float] = {}  # of a run that is finished
        if start is not None:
            self._take_over(start)
        self.main = accelerator.is_main_process
        self.log = MetricsLog(run_dir, keep_until=self.first) if self.main else None
        notes = (*parts.notes, note, *(self.log.notes if self.log is not None else ()))
        self.notes = tuple(one for one in notes if one)
        skipped = start.progress.get("skipped", 0) if start is not None else 0
        self.reporter = Reporter(
            accelerator,
            self.log,
            listen,
            run_dir,
            key_of=parts.stream.key,
            skipped=skipped if config.non_finite == SKIP_NON_FINITE else None,
        )

    def _take_over(self, start: Checkpoint) -> None:
        with fitting(self.run_dir / FOLDER / f"step-{start.step:08d}"):
            self.stepper.load_states(start.states)
            self.best, self.last = start.progress["best"], start.progress["last"]
            self.no_figures = str(start.progress.get("no_figures", ""))
            self.unjudged = bool(start.progress.get("unjudged"))

    def catch_up(self) -> None:
        """What a checkpoint left due: a validation, or the end of a run whose steps are all made."""
        if self.unjudged and self.parts.evaluate is not None:
            self._save(self.first, self._judge(self.first))
            self.unjudged = False
        if self.first >= self.config.steps:
            self._finish()
        self.reporter.restart_clock()

    def step(self, step: int, batches: Iterator[Batch]) -> None:
        """Step `step` (from 0) on the next batches."""
        self.reporter.go_on()
        result = self.stepper.step(step, batches, self.parts.stream)
        self.reporter.add(step + 1, self.stepper.lr(step), result)
        self.reporter.pause()

    def after(self, done: int, *, stop: bool) -> None:
        """What is due when `done` steps are made; with `stop` the run ends there, unless it is finished.
        Raises Stopped."""
        config, total, judged = self.config, self.config.steps, self._judges(done)
        stops = stop and (judged or done < total)
        if stops or judged or due(done, config.save_every, total):
            self.reporter.go_on()
            self.reporter.flush()
            if stops:
                self.stop(done, unjudged=judged)
            self._save(done, judged and self._judge(done))
            self.reporter.restart_clock()
        if done == total:
            self._finish()

    def _judges(self, done: int) -> bool:
        return self.parts.evaluate is not None and due(done, self.config.eval_every, self.config.steps)

    def stops_after(self, done: int) -> bool:
        """Whether a signal ends the run after this step: the same answer on every rank."""
        judged = self._judges(done)
        if judged and self.ranks.reduce is not None:  # a validation is worth a question that waits
            return bool(self.ranks.reduce(torch.tensor(float(asked() > 0), device=self.ranks.device)) > 0)
        return (judged or done < self.config.steps) and self.together.stops_after(done)

    def stop(self, done: int, *, unjudged: bool = False) -> None:
        """Save, where anything is new since the last checkpoint, and end. Raises Stopped."""
        if done > self.saved:
            self.reporter.flush()
            self._save(done, False, unjudged=unjudged)
        raise self._stopped(max(done, self.first))

    def _stopped(self, done: int) -> Stopped:
        return Stopped(asked() or signal.SIGTERM, f"{done} steps are done, {going_on(self.run_dir)}")

    def _evaluated(self, done: int, network: nn.Module) -> Metrics:
        """The figures of `network`. What ends this early finds, or leaves, the checkpoint of its step."""
        assert self.parts.evaluate is not None
        if self.ranks.world > 1:  # a rank that fails elsewhere cannot be waited for
            self._save(done, False, unjudged=True)
        try:
            with finishing(False):
                return self.parts.evaluate(network)
        except (Exception, KeyboardInterrupt) as error:
            if self.ranks.world == 1:
                self._save(done, False, unjudged=True)
            if isinstance(error, Stopped):
                raise self._stopped(done) from None
            raise

    def close(self) -> None:
        if self.log is not None:
            self.log.close()

    def begin(self) -> None:
        """Open the trackers, say what will be trained on what, and export again what a kill left undone."""
        start_trackers(self.accelerator, self.config)
        if self.main:
            if self.first:
                refuse_other_stream(self.run_dir, self.parts.stream.describe())
            environment = describe_environment(
                self.ranks.device, world=self.ranks.world, memory_format=self.parts.memory_format
            )
            write_environment(self.run_dir, environment, self.parts.stream.describe())
            if self.best is not None and self.best["step"] == self.first:
                self._export(self.best)
        self.listen(
            RunStarted(
                run=self.config.run,
                start=self.first,
                steps=self.config.steps,
                summary=self.parts.summary,
                loss_rows=self.parts.loss_rows,
                notes=self.notes,
            )
        )

    def _judge(self, step: int) -> bool:
        """Validate on every rank; True when this is the best student so far."""
        network = self.stepper.network
        _share_buffers(network, self.ranks.world)
        training = network.training
        metrics = self._evaluated(step, network)
        network.train(training)
        self.last = metrics.named()
        # A figure that is not a number (no labelled pixel) is no best; that of an older checkpoint is beaten.
        best = math.nan if self.best is None else self.best[metrics.score_name]
        better = not math.isnan(metrics.score) and (math.isnan(best) or metrics.score > best)
        if better:
            self.best = {"step": step, **self.last}
        counted = {metrics.per_class_key: plain(metrics.per_class), "num_images": metrics.num_images}
        self._write(step, {"split": "val", **self.last, **counted})
        self.accelerator.log({f"val/{name}": value for name, value in self.last.items()}, step)
        self.no_figures = no_figures_said(metrics, "the student")
        self.listen(Evaluated(step=step, split="val", metrics=self.last, best=better, note=self.no_figures))
        return better

    def _save(self, step: int, better: bool, *, unjudged: bool = False) -> None:
        """A checkpoint; with `unjudged` one whose validation is still due."""
        self.saved = step
        if self.main:
            assert self.log is not None
            self.log.sync()
            progress: dict[str, Any] = {"best": self.best, "last": self.last}
            progress |= {"unjudged": True} if unjudged else {}
            progress |= {"no_figures": self.no_figures} if self.no_figures else {}
            progress |= {"skipped": self.reporter.skipped} if self.reporter.skipped else {}
            path = save_checkpoint(self.run_dir, step=step, states=self.stepper.states(), progress=progress)
            self.listen(Saved(step=step, path=str(path)))
            if better and self.best is not None:
                self._export(self.best)
        arrived()
        self.accelerator.wait_for_everyone()

    def _export(self, metrics: Mapping[str, float]) -> None:
        self.parts.export(self.run_dir, self.stepper.student, {f"best/{k}": v for k, v in metrics.items()})

    def _finish(self) -> None:
        """Write the card with best and final metrics.

        Without validation the last student is the exported one. Raises NotFinite where that answers infinity
        or NaN, and no better one was kept.
        """
        self._refuse_no_figures()
        steps = self.config.steps
        card = {f"best/{name}": value for name, value in (self.best or {}).items()}
        card |= {f"final/{name}": value for name, value in {"step": steps, **self.last}.items()}
        if self.main:
            kept: nn.Module | None = None if self.best is not None else self.stepper.student
            self.parts.export(self.run_dir, kept, card)
        arrived()
        self.accelerator.wait_for_everyone()
        self.listen(
            RunFinished(
                run_dir=str(self.run_dir),
                steps=steps,
                metrics=card,
                score_name=self.parts.score_name,
                notes=self.notes,
                skipped=self.reporter.skipped or 0,
            )
        )
        self.card = card

    def _refuse_no_figures(self) -> None:
        if self.best is None and self.no_figures:
            raise NotFinite(
                f"no validation gave a figure, at the last one {self.no_figures}: no student is exported",
                where=str(self.run_dir),
                fix="train again under another --run, with a lower rate than "
                f"--lr {self.config.base_lr:g}, or with --clip",
            )

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        if self.log is not None:
            self.log.write(step, values)


def _share_buffers(network: nn.Module, world: int) -> None:
    """Batch statistics of rank 0 to all ranks, so that every rank judges the student that rank 0 exports."""
    if world > 1:
        for buffer in network.buffers():
            broadcast(buffer)
