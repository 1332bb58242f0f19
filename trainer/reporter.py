"""Losses from the device to `metrics.jsonl`, the trackers and the listener, a few steps at a time.

Reading a loss makes the CPU wait for a GPU, so the losses of some steps stay on the device and are read
together, and with them whether gradients and weights were finite; each step is still checked and written.
Nothing is saved or exported before every step up to there was found finite.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator

from kdcache.cache.errors import NotFinite
from kdcache.cache.visible import shell_word
from kdcache.trainer.events import Listen, StepsDone
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.folder.metrics_log import MetricsLog
from kdcache.trainer.steps.finite import KINDS
from kdcache.trainer.steps.step import UNWEIGHTED, StepResult

REPORT_EVERY = {"cpu": 1, "cuda": 10}  # steps
SHOWN_KEYS = 8


class Reporter:
    """Collects step results. Losses are averaged over ranks, so every rank flushes after the same steps."""

    def __init__(
        self,
        accelerator: Accelerator,
        log: MetricsLog | None,
        listen: Listen,
        run_dir: Path,
        *,
        key_of: Callable[[int], str] = str,
        skipped: int | None = None,
    ) -> None:
        """`key_of` names a sample by its index. `skipped`: how many steps were left out before; None: none
        may be, a fault stops the run."""
        self._accelerator, self._log, self._listen, self._run_dir = accelerator, log, listen, run_dir
        self._every = REPORT_EVERY.get(accelerator.device.type, 1)
        self._pending: list[tuple[int, float, StepResult]] = []
        self._key_of, self.skipped = key_of, skipped
        self._clock_s = time.perf_counter()
        self._paused_s: float | None = None

    def add(self, step: int, lr: float, result: StepResult) -> None:
        """Keep the result of step `step` (finished steps, from 1); flushes by itself every few steps."""
        self._pending.append((step, lr, result))
        if step % self._every == 0:
            self.flush()

    def flush(self) -> None:
        """Read, check and write the pending losses. Raises NotFinite."""
        if not self._pending:
            return
        rows = self._read()
        timing = dict(zip(("steps_per_s", "wait_share"), self._rate(), strict=True))
        for (step, lr, result), (terms, faults) in zip(self._pending, rows, strict=True):
            self._check(step, result, terms, faults)
            if self._log is not None:
                skipped = {} if self.skipped is None else {"skipped": self.skipped}
                self._log.write(
                    step, {"epoch": result.epoch, "lr": lr, **_by_kind(terms), **timing, **skipped}
                )
            losses = {f"loss/{name}": value for name, value in terms.items() if math.isfinite(value)}
            self._accelerator.log({**losses, "lr": lr, "wait_share": timing["wait_share"]}, step=step)
        step, lr, _ = self._pending[-1]
        mean = _mean_terms([terms for terms, _ in rows])
        self._listen(StepsDone(step=step, terms=mean, lr=lr, **timing, skipped=self.skipped or 0))
        self._pending.clear()
        self.restart_clock()

    def _read(self) -> list[tuple[dict[str, float], dict[str, float]]]:
        """Of each pending step its terms, means over the ranks, and of each of `KINDS` the share of ranks on
        which it was not finite. Waits for the device."""
        results = [result for _, _, result in self._pending]
        none = torch.zeros(len(KINDS), device=results[0].terms.device)
        flat = [torch.cat([one.terms, none if one.faults is None else one.faults]) for one in results]
        rows = self._accelerator.reduce(torch.stack(flat), reduction="mean").tolist()
        split = [(row[: -len(KINDS)], row[-len(KINDS) :]) for row in rows]
        return [
            (dict(zip(one.names, terms, strict=True)), dict(zip(KINDS, faults, strict=True)))
            for one, (terms, faults) in zip(results, split, strict=True)
        ]

    def _check(
        self, step: int, result: StepResult, terms: Mapping[str, float], faults: Mapping[str, float]
    ) -> None:
        """Counts a step that was left out. Raises NotFinite for any other that is not finite, on every
        rank."""
        if result.skipped and self.skipped is not None:
            self.skipped += 1
            faults = {kind: share for kind, share in faults.items() if kind == "weights"}
            terms = {}
        wrong = [f"{name} = {value:g}" for name, value in terms.items() if not math.isfinite(value)]
        wrong += [f"the {kind}" for kind, share in faults.items() if share]
        if not wrong:
            return
        keys = self._keys(result)
        shown = ", ".join(repr(key) for key in keys[:SHOWN_KEYS])
        more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
        raise not_finite(wrong, step, self._run_dir, batch=f"{shown}{more}", skips=self.skipped is not None)

    def _keys(self, result: StepResult) -> list[str]:
        """Of the micro batches on all ranks whose terms were not finite; of all where every term was."""
        if not result.samples:
            return []
        samples = torch.stack(result.samples).to(result.terms.device)
        finite = torch.stack([one.isfinite().all() for one in result.micro_terms])
        everywhere = self._accelerator.gather(samples), self._accelerator.gather(finite)
        of_micro, good = (one.cpu() for one in everywhere)
        bad = of_micro if bool(good.all()) else of_micro[~good]
        return [self._key_of(index) for index in dict.fromkeys(bad.flatten().tolist())]

    def restart_clock(self) -> None:
        """Leave what happened since the last flush (validation, saving) out of the rate."""
        self._clock_s, self._paused_s = time.perf_counter(), None

    def pause(self) -> None:
        """Leave what happens until `go_on` out of the rate: the steps of other runs in this process."""
        self._paused_s = time.perf_counter()

    def go_on(self) -> None:
        if self._paused_s is not None:
            self._clock_s += time.perf_counter() - self._paused_s
            self._paused_s = None

    def _rate(self) -> tuple[float, float]:
        """Steps per second and the share of the time that the stream was waited for."""
        elapsed_s = max(time.perf_counter() - self._clock_s, 1e-9)
        wait_s = sum(result.wait_s for _, _, result in self._pending)
        return len(self._pending) / elapsed_s, min(1.0, wait_s / elapsed_s)


def _by_kind(terms: Mapping[str, float]) -> dict[str, dict[str, float | None]]:
    """{'loss': weighted terms and total, 'unweighted': bare formulas}."""
    # JSON has no NaN: null is what a step that was left out has.
    plain = {k: v if math.isfinite(v) else None for k, v in terms.items()}
    bare = {k.removeprefix(UNWEIGHTED): v for k, v in plain.items() if k.startswith(UNWEIGHTED)}
    return {"loss": {k: v for k, v in plain.items() if not k.startswith(UNWEIGHTED)}, "unweighted": bare}


def _mean_terms(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Weighted terms over the steps that were finite; of all of them where none was."""
    good = [row for row in rows if all(map(math.isfinite, row.values()))] or rows
    names = [name for name in rows[-1] if not name.startswith(UNWEIGHTED)]
    return {name: sum(row[name] for row in good) / len(good) for name in names}


_KEPT = "the last checkpoint is kept", "goes on"
_NONE_YET = "there is no checkpoint yet", "the run begins again"


def not_finite(wrong: Sequence[str], step: int, run_dir: Path, *, batch: str, skips: bool) -> NotFinite:
    """The error of step `step`: what was wrong in it, with which samples, and how training goes on."""
    words = ", ".join(wrong)
    gentler = "train again under another --run with a lower --lr, with --clip, --warmup-steps or --amp bf16"
    go_on = f"kdtrain --run {shell_word(run_dir.name)} --resume --non-finite skip"
    checkpoints = list_checkpoints(run_dir)
    kept, goes = _KEPT if checkpoints else _NONE_YET
    return NotFinite(
        f"not finite in step {step}: {words}",
        where=f"{run_dir}, batch of {batch or 'unknown samples'}",
        fix=f"{gentler}; {kept}" + ("" if skips else f", and {goes} without such steps: {go_on}"),
    )
