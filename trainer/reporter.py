"""Losses from the device to `metrics.jsonl`, the trackers and the listener, a few steps at a time.

Reading a loss makes the CPU wait for a GPU, so the losses of some steps stay on the device and are read
together; each of them is still checked and written. Nothing is saved before the losses up to there were found
finite.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator

from kdcache.cache.errors import KdError
from kdcache.trainer.events import Listen, StepsDone
from kdcache.trainer.folder.metrics_log import MetricsLog
from kdcache.trainer.steps.step import UNWEIGHTED, StepResult

REPORT_EVERY = {"cpu": 1, "cuda": 10}  # steps


class NotFinite(KdError, ArithmeticError):
    """A loss became NaN or infinite."""


class Reporter:
    """Collects step results. Losses are averaged over ranks, so every rank flushes after the same steps."""

    def __init__(
        self, accelerator: Accelerator, log: MetricsLog | None, listen: Listen, run_dir: Path
    ) -> None:
        self._accelerator, self._log, self._listen, self._run_dir = accelerator, log, listen, run_dir
        self._every = REPORT_EVERY.get(accelerator.device.type, 1)
        self._pending: list[tuple[int, float, StepResult]] = []
        self._clock_s = time.perf_counter()

    def add(self, step: int, lr: float, result: StepResult) -> None:
        """Keep the result of step `step` (finished steps, from 1); flushes by itself every few steps."""
        self._pending.append((step, lr, result))
        if step % self._every == 0:
            self.flush()

    def flush(self) -> None:
        """Read, check and write the pending losses. Raises NotFinite."""
        if not self._pending:
            return
        stacked = torch.stack([result.terms for _, _, result in self._pending])
        rows = self._accelerator.reduce(stacked, reduction="mean").tolist()
        rate, wait_share = self._rate()
        for (step, lr, result), row in zip(self._pending, rows, strict=True):
            terms = dict(zip(result.names, row, strict=True))
            check_finite(terms, step, self._run_dir)
            if self._log is not None:
                timing = {"steps_per_s": rate, "wait_share": wait_share}
                self._log.write(step, {"epoch": result.epoch, "lr": lr, **_by_kind(terms), **timing})
            losses = {f"loss/{name}": value for name, value in terms.items()}
            self._accelerator.log({**losses, "lr": lr, "wait_share": wait_share}, step=step)
        step, lr, last = self._pending[-1]
        columns = zip(last.names, zip(*rows, strict=True), strict=True)
        mean = {name: sum(values) / len(rows) for name, values in columns if not name.startswith(UNWEIGHTED)}
        self._listen(StepsDone(step=step, terms=mean, lr=lr, steps_per_s=rate, wait_share=wait_share))
        self._pending.clear()
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leave what happened since the last flush (validation, saving) out of the rate."""
        self._clock_s = time.perf_counter()

    def _rate(self) -> tuple[float, float]:
        """Steps per second and the share of the time that the stream was waited for."""
        elapsed_s = max(time.perf_counter() - self._clock_s, 1e-9)
        wait_s = sum(result.wait_s for _, _, result in self._pending)
        return len(self._pending) / elapsed_s, min(1.0, wait_s / elapsed_s)


def _by_kind(terms: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """{'loss': weighted terms and total, 'unweighted': bare formulas}."""
    bare = {k.removeprefix(UNWEIGHTED): v for k, v in terms.items() if k.startswith(UNWEIGHTED)}
    return {"loss": {k: v for k, v in terms.items() if not k.startswith(UNWEIGHTED)}, "unweighted": bare}


def check_finite(terms: Mapping[str, float], step: int, run_dir: Path) -> None:
    """Raises NotFinite naming every term's value."""
    if all(math.isfinite(value) for value in terms.values()):
        return
    shown = ", ".join(f"{name} = {value:g}" for name, value in terms.items())
    raise NotFinite(
        f"the loss is not finite in step {step}: {shown}",
        where=str(run_dir),
        fix="lower --lr, add --clip or --warmup-steps, or use --amp bf16; the last checkpoint is kept",
    )
