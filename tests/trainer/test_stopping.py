"""Ctrl-C and SIGTERM: the step ends, a checkpoint is left, and the resumed run ends as if nobody stopped it.

Also a validation that fails: what was trained until then is kept.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate import Accelerator
from fake_run import CONFIG, judge, parts, results, run
from torch import nn

from kdcache.cache.errors import BadSample
from kdcache.cache.processes.stop import Stopped, signals
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.folder.metrics_log import read_metrics
from kdcache.trainer.folder.run_folder import check_free
from kdcache.trainer.judge.segmentation import SegmentationMetrics
from kdcache.trainer.loop import train
from kdcache.trainer.steps.contract import RunParts

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Judge = Callable[[nn.Module], SegmentationMetrics]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir: Path = tmp_path_factory.mktemp("whole") / "r"
    run(run_dir)
    return run_dir


def names(run_dir: Path) -> list[str]:
    return [path.name for path in list_checkpoints(run_dir)]


# Two micro steps a step; a checkpoint is due after 2, 4, 6, a validation after 3, 6 and 7.
@pytest.mark.parametrize(("micro_step", "done"), [(0, 1), (3, 2), (4, 3), (8, 5), (13, 7)])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_step_and_leaves_a_checkpoint_from_which_the_run_ends_the_same(
    whole: Path, tmp_path: Path, number: signal.Signals, micro_step: int, done: int
) -> None:
    with signals(), pytest.raises(Stopped) as stopped:
        run(tmp_path / "r", signal_at=micro_step, number=number)
    assert stopped.value.status == 128 + number
    assert names(tmp_path / "r")[-1] == f"step-{done:08d}"
    assert max(line["step"] for line in read_metrics(tmp_path / "r")) == done
    assert stopped.value.said == (
        f"{done} steps are done, the last checkpoint is that of step {done}, "
        "go on with: kdtrain --run r --resume"
    )
    run(tmp_path / "r", resume=True)
    assert results(tmp_path / "r") == results(whole)


def judged_by(judging: Judge) -> Callable[[Accelerator], RunParts]:
    return lambda accelerator: replace(parts(CONFIG)(accelerator), evaluate=judging)


def failing(at: int, fail: Callable[[], None]) -> Judge:
    """The fake judge, whose validation number `at` calls `fail` first."""
    calls = iter(range(1, 100))

    def judging(network: nn.Module) -> SegmentationMetrics:
        if next(calls) == at:
            fail()
        return judge(network)

    return judging


@pytest.mark.parametrize(("at", "done"), [(1, 3), (2, 6), (3, 7)])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_validation_at_once_and_it_is_made_up_for(
    whole: Path, tmp_path: Path, number: signal.Signals, at: int, done: int
) -> None:
    def stop() -> None:
        os.kill(os.getpid(), number)
        raise AssertionError("the validation goes on")

    with signals(), pytest.raises(Stopped) as stopped:
        train(CONFIG, tmp_path / "r", judged_by(failing(at, stop)))
    assert stopped.value.status == 128 + number and f"step {done}," in stopped.value.said
    assert names(tmp_path / "r")[-1] == f"step-{done:08d}"
    run(tmp_path / "r", resume=True)
    assert results(tmp_path / "r") == results(whole)


@pytest.mark.parametrize("error", [BadSample("x", where="y", fix="z"), OSError(28, "full")])
def test_a_validation_that_fails_loses_no_step_and_is_made_up_for(
    whole: Path, tmp_path: Path, error: Exception
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:  # what the system refuses is said in three parts
        train(CONFIG, tmp_path / "r", judged_by(failing(3, fail)))
    assert error in (raised.value, raised.value.__cause__)
    assert names(tmp_path / "r")[-1] == "step-00000007"
    run(tmp_path / "r", resume=True)
    assert results(tmp_path / "r") == results(whole)


def test_before_the_first_step_there_is_no_checkpoint_and_the_message_says_so(tmp_path: Path) -> None:
    def assemble(accelerator: Accelerator) -> RunParts:
        os.kill(os.getpid(), signal.SIGTERM)
        return parts(CONFIG)(accelerator)

    with signals(), pytest.raises(Stopped) as stopped:
        train(CONFIG, tmp_path / "r", assemble)
    said = "no step was made; there is no checkpoint yet, the same command begins again"
    assert stopped.value.said == said and stopped.value.status == 143
    check_free(tmp_path / "r")


def test_before_the_first_step_of_a_resumed_run_its_checkpoint_is_named(tmp_path: Path) -> None:
    with signals(), pytest.raises(Stopped):
        run(tmp_path / "r", signal_at=0)

    def assemble(accelerator: Accelerator) -> RunParts:
        os.kill(os.getpid(), signal.SIGINT)
        return parts(CONFIG)(accelerator)

    with signals(), pytest.raises(Stopped) as stopped:
        train(CONFIG, tmp_path / "r", assemble, resume=True)
    assert stopped.value.said.startswith(
        "no step was made; the last checkpoint is that of step 1, go on with"
    )
