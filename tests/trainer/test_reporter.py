"""Losses on their way to the log, the trackers and the listener, a few steps at a time as on a GPU."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from kdcache.trainer.events import Event, StepsDone
from kdcache.trainer.folder.metrics_log import MetricsLog, read_metrics
from kdcache.trainer.reporter import REPORT_EVERY, NotFinite, Reporter
from kdcache.trainer.steps.step import UNWEIGHTED, StepResult

EVERY = REPORT_EVERY["cuda"]
NAMES = ("total", "kd", f"{UNWEIGHTED}kd")


def on_a_gpu(tmp_path: Path) -> tuple[Reporter, MetricsLog, list[Event]]:
    def reduce(value: Tensor, reduction: str) -> Tensor:
        assert reduction == "mean"
        return value

    accelerator: Any = SimpleNamespace(
        device=SimpleNamespace(type="cuda"), reduce=reduce, log=lambda values, step: None
    )
    heard: list[Event] = []
    log = MetricsLog(tmp_path, keep_until=0)
    return Reporter(accelerator, log, heard.append, tmp_path), log, heard


def result(total: float) -> StepResult:
    return StepResult(NAMES, torch.tensor([total, total / 2, total * 4]), epoch=3, wait_s=0.0)


def test_losses_are_read_every_ten_steps_and_every_step_is_written(tmp_path: Path) -> None:
    reporter, log, heard = on_a_gpu(tmp_path)
    for step in range(1, EVERY):
        reporter.add(step, 0.1, result(step))
    assert heard == [], "reading a loss makes the CPU wait"
    reporter.add(EVERY, 0.1, result(EVERY))
    (told,) = heard
    assert isinstance(told, StepsDone) and told.step == EVERY
    mean = (1 + EVERY) / 2
    assert told.terms == {"total": pytest.approx(mean), "kd": pytest.approx(mean / 2)}
    log.close()
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, EVERY + 1))
    assert lines[2]["loss"] == {"total": 3.0, "kd": 1.5} and lines[2]["unweighted"] == {"kd": 12.0}
    assert lines[2]["epoch"] == 3


def test_what_waits_is_written_when_it_is_asked_for_and_only_once(tmp_path: Path) -> None:
    reporter, log, heard = on_a_gpu(tmp_path)
    for step in (1, 2):
        reporter.add(step, 0.1, result(step))
    reporter.flush()
    reporter.flush()
    log.close()
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2] and len(heard) == 1


def test_one_step_that_is_not_finite_among_several_stops_the_run(tmp_path: Path) -> None:
    reporter, log, _ = on_a_gpu(tmp_path)
    for step, total in ((1, 1.0), (2, float("inf")), (3, 1.0)):
        reporter.add(step, 0.1, result(total))
    with pytest.raises(NotFinite, match="not finite in step 2: total = inf"):
        reporter.flush()
    log.close()
