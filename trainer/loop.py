"""The training loop: steps, reports, validation, checkpoints, export; resumable at any moment, exactly.

Order after step n: metrics line -> validation when due -> checkpoint when due -> export when the student is
the best. The best student is exported after the checkpoint that knows of it, so a killed run never keeps an
export that its checkpoint has not heard of; resuming right there exports again.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn

from kdcache.trainer.config import TrainConfig, write_config
from kdcache.trainer.events import (
    Evaluated,
    Listen,
    RunFinished,
    RunStarted,
    Saved,
    silent,
)
from kdcache.trainer.folder.checkpoint import Checkpoint, load_latest, save_checkpoint, sweep
from kdcache.trainer.folder.environment import describe_environment, refuse_other_stream, write_environment
from kdcache.trainer.folder.run_folder import MetricsLog, check_free, held
from kdcache.trainer.ranks import ranks_of, reset_accelerate, start_accelerator, start_trackers, uses_sync_bn
from kdcache.trainer.reporter import Reporter
from kdcache.trainer.steps.choose import make_stepper
from kdcache.trainer.steps.contract import RunParts
from kdcache.trainer.steps.options import SKIP_NON_FINITE
from kdcache.trainer.steps.schedule import due

Assemble = Callable[[Accelerator], RunParts]


def train(
    config: TrainConfig, run_dir: Path, assemble: Assemble, *, resume: bool = False, listen: Listen = silent
) -> Mapping[str, float]:
    """Train in `run_dir` and return the metrics of the exported student.

    Raises BadOption when the folder is taken and `resume` is not set, Busy when another process trains there,
    NotFinite when a loss is not a number (the last checkpoint stays).
    """
    if not resume:
        check_free(run_dir)
    start = load_latest(run_dir) if resume else None
    accelerator = start_accelerator(config, run_dir, start=start.step if start else 0)
    try:
        parts = assemble(accelerator)
        with ExitStack() as stack:
            stack.callback(parts.stream.close)
            if accelerator.is_main_process:
                stack.enter_context(held(run_dir))
                sweep(run_dir)
                write_config(run_dir, config, parts.resolved)
            accelerator.wait_for_everyone()
            run = Run(
                config, run_dir, parts, accelerator, start, listen if accelerator.is_main_process else silent
            )
            stack.callback(run.close)
            return run.run()
    finally:
        accelerator.end_training()
        reset_accelerate()


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
    ) -> None:
        self.config, self.run_dir, self.parts, self.accelerator, self.listen = (
            config,
            run_dir,
            parts,
            accelerator,
            listen,
        )
        self.ranks = ranks_of(accelerator)
        sync_bn, note = uses_sync_bn(config, self.ranks)
        self.notes = (*parts.notes, *([note] if note else []))
        self.stepper = make_stepper(config, parts, accelerator, sync_bn=sync_bn)
        self.first = start.step if start else 0
        self.best: dict[str, float] | None = None  # 'step' and the metrics of the best student so far
        self.last: dict[str, float] = {}  # metrics of the latest validation
        if start is not None:
            self.stepper.load_states(start.states)
            self.best, self.last = start.progress["best"], start.progress["last"]
        self.main = accelerator.is_main_process
        self.log = MetricsLog(run_dir, keep_until=self.first) if self.main else None
        skipped = start.progress.get("skipped", 0) if start is not None else 0
        self.reporter = Reporter(
            accelerator,
            self.log,
            listen,
            run_dir,
            key_of=parts.stream.key,
            skipped=skipped if config.non_finite == SKIP_NON_FINITE else None,
        )

    def run(self) -> Mapping[str, float]:
        """Every remaining step, then the card. Returns its metrics."""
        self._begin()
        config, total = self.config, self.config.steps
        batches = self.parts.stream.run(self.first * config.accumulate)
        self.reporter.restart_clock()
        for step in range(self.first, total):
            result = self.stepper.step(step, batches, self.parts.stream)
            self.reporter.add(step + 1, self.stepper.lr(step), result)
            judged = self.parts.evaluate is not None and due(step + 1, config.eval_every, total)
            if judged or due(step + 1, config.save_every, total):
                self.reporter.flush()
                better = judged and self._judge(step + 1)
                self._save(step + 1, better)
                self.reporter.restart_clock()
        return self._finish()

    def close(self) -> None:
        if self.log is not None:
            self.log.close()

    def _begin(self) -> None:
        start_trackers(self.accelerator, self.config)
        if self.main:
            if self.first:
                refuse_other_stream(self.run_dir, self.parts.stream.describe())
            environment = describe_environment(self.ranks.device, world=self.ranks.world)
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
        assert self.parts.evaluate is not None
        network = self.stepper.network
        _share_buffers(network, self.ranks.world)
        training = network.training
        metrics = self.parts.evaluate(network)
        network.train(training)
        self.last = metrics.named()
        # A figure that is not a number (no labelled pixel) is no best; that of an older checkpoint is beaten.
        best = math.nan if self.best is None else self.best[metrics.score_name]
        better = not math.isnan(metrics.score) and (math.isnan(best) or metrics.score > best)
        if better:
            self.best = {"step": step, **self.last}
        classes = {name: None if math.isnan(value) else value for name, value in metrics.per_class.items()}
        counted = {metrics.per_class_key: classes, "num_images": metrics.num_images}
        self._write(step, {"split": "val", **self.last, **counted})
        self.accelerator.log({f"val/{name}": value for name, value in self.last.items()}, step)
        self.listen(Evaluated(step=step, split="val", metrics=self.last, best=better))
        return better

    def _save(self, step: int, better: bool) -> None:
        if self.main:
            assert self.log is not None
            self.log.sync()
            skipped = {"skipped": self.reporter.skipped} if self.reporter.skipped else {}
            progress = {"best": self.best, "last": self.last, **skipped}
            path = save_checkpoint(self.run_dir, step=step, states=self.stepper.states(), progress=progress)
            self.listen(Saved(step=step, path=str(path)))
            if better and self.best is not None:
                self._export(self.best)
        self.accelerator.wait_for_everyone()

    def _export(self, metrics: Mapping[str, float]) -> None:
        self.parts.export(self.run_dir, self.stepper.student, {f"best/{k}": v for k, v in metrics.items()})

    def _finish(self) -> Mapping[str, float]:
        """Write the card with best and final metrics.

        Without validation the last student is the exported one.
        """
        steps = self.config.steps
        card = {f"best/{name}": value for name, value in (self.best or {}).items()}
        card |= {f"final/{name}": value for name, value in {"step": steps, **self.last}.items()}
        if self.main:
            kept: nn.Module | None = None if self.best is not None else self.stepper.student
            self.parts.export(self.run_dir, kept, card)
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
        return card

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        if self.log is not None:
            self.log.write(step, values)


def _share_buffers(network: nn.Module, world: int) -> None:
    """Batch statistics of rank 0 to all ranks, so that every rank judges the student that rank 0 exports."""
    if world > 1:
        for buffer in network.buffers():
            broadcast(buffer)
