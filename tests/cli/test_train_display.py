"""What a training run says to a person."""

import io

import pytest
from rich.text import Text

from kdcache.cli.terminal import Terminal
from kdcache.cli.training.train_display import TrainDisplay, duration
from kdcache.trainer.events import RunFinished, RunStarted, StepsDone

CARD = {
    "best/step": 20, "best/miou": 0.5, "best/miou_absent_zero": 0.25, "final/step": 40, "final/miou": 0.375,
    "final/pixel_accuracy": 0.75,
}  # fmt: skip


@pytest.mark.parametrize(
    ("score_name", "line"),
    [
        ("miou", "best/step 20, best/miou 50.00 %, final/step 40, final/miou 37.50 %"),
        ("pixel_accuracy", "best/step 20, final/step 40, final/pixel_accuracy 75.00 %"),
    ],
)
def test_the_end_tells_the_score_of_the_best_student_and_of_the_last(score_name: str, line: str) -> None:
    said = io.StringIO()
    with TrainDisplay(Terminal(file=said, width=200)) as display:
        display(RunFinished(run_dir="runs/r", steps=40, metrics=CARD, score_name=score_name, notes=()))
    assert said.getvalue().splitlines() == ["finished 40 steps: runs/r", f"  {line}"]


def steps(step: int, **changes: float) -> StepsDone:
    """What is reported after a step of a run at two steps a second."""
    state = {"lr": 0.01, "steps_per_s": 2.0, "wait_share": 0.0234, **changes}
    return StepsDone(step=step, terms={"total": 1.2345678, "task": 1.0, "kd": 0.2345678}, **state)  # type: ignore[arg-type]


def begun(total: int) -> RunStarted:
    return RunStarted(run="r", start=0, steps=total, summary={}, loss_rows=(), notes=())


def test_a_log_file_gets_the_first_steps_a_line_a_minute_and_the_last_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said, now_s = io.StringIO(), 100.0
    monkeypatch.setattr("kdcache.cli.training.train_display.time.monotonic", lambda: now_s)
    with TrainDisplay(Terminal(file=said, width=200)) as display:
        display(begun(400))
        for step in range(1, 401):
            display(steps(step))
            now_s += 0.5
        display(RunFinished(run_dir="runs/r", steps=400, metrics={}, score_name="miou", notes=()))
    lines = [line for line in said.getvalue().splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["1/400", "121/400", "241/400", "361/400", "400/400"]
    assert lines[1].endswith("2% waiting for the stream, 2 min left") and "left" not in lines[-1]


def test_a_line_of_progress_fits_80_columns_and_shows_step_time_left_loss_and_wait() -> None:
    seen = io.StringIO()
    with TrainDisplay(Terminal(file=seen, width=80, live=True)) as display:
        display(begun(1_000_000))
        for step in (100_000, 200_000, 300_000):
            display(steps(step))
    last = Text.from_ansi(seen.getvalue()).plain.replace("\r", "\n").splitlines()
    lines = [line for line in last if "loss" in line]
    assert lines, seen.getvalue()
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert "300000/1000000" in lines[-1] and lines[-1].rstrip().endswith("loss 1.235  wait 2%")
    assert ":" in lines[-1], "the time left"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (91, "2 min"),
        (3569, "59 min"),
        (3600, "1 h 0 min"),
        (12_000, "3 h 20 min"),
    ],
)
def test_a_duration_is_said_in_the_unit_that_people_use(seconds: float, said: str) -> None:
    assert duration(seconds) == said
