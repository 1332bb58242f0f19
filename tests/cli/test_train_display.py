"""What a training run says to a person."""

import io

import pytest

from kdcache.cli.terminal import Terminal
from kdcache.cli.training.train_display import TrainDisplay
from kdcache.trainer.events import RunFinished

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
