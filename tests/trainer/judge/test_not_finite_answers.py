"""A network that answers infinity or NaN has no figures: it is never the best, and nobody prints a number."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from fake_run import CONFIG, parts
from judged_cases import (
    CLASSES,
    LOGITS,
    drawn_classes,
    drawn_maps,
    judged_classes,
    judged_maps,
    red_is_class,
    says,
)
from torch import Tensor, nn

from kdcache.cache.errors import NotFinite
from kdcache.cli.terminal import Terminal
from kdcache.cli.training.train_display import TrainDisplay
from kdcache.trainer.events import Evaluated, Event
from kdcache.trainer.folder.metrics_log import read_metrics
from kdcache.trainer.judge.judge import judge
from kdcache.trainer.judge.metrics import Metrics, NoFigures, no_figures_said, shown
from kdcache.trainer.judge.segmentation import SegmentationMetrics
from kdcache.trainer.loop import train
from kdcache.trainer.steps.contract import RunParts

BAD = [math.nan, math.inf, -math.inf]


def without_figures(metrics: object, images: int, of: int) -> None:
    assert isinstance(metrics, NoFigures) and (metrics.not_finite, metrics.num_images) == (images, of)
    assert math.isnan(metrics.score) and metrics.score_name in metrics.named()
    assert all(math.isnan(value) for value in (*metrics.named().values(), *metrics.per_class.values()))
    assert (
        no_figures_said(metrics, "the student")
        == f"the student answers infinity or NaN for {images} of {of} images"
    )


def classes(network: object, **options: object) -> object:
    fixed = {"task": "classification", "device": "cpu", "class_names": CLASSES, "input_size": (8, 8)}
    return judge(network, drawn_classes(), batch_size=2, **fixed, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", BAD)
def test_classes(bad: float) -> None:
    logits_NK = LOGITS.clone()
    logits_NK[[1, 4], [0, 2]] = bad
    logits_NK[4, 1] = bad  # an image counts once
    without_figures(classes(says(logits_NK)), 2, 7)
    assert not no_figures_said(judged_classes(), "the student")


@pytest.mark.parametrize("bad", BAD)
def test_maps(bad: float) -> None:
    def network(images_BHWC: Tensor) -> dict[str, Tensor]:
        logits = red_is_class(images_BHWC)["logits"]
        if images_BHWC.shape[1:3] == (10, 7):
            logits[0, 1, 3, 3] = bad
        return {"logits": logits}

    fixed = {"task": "segmentation", "device": "cpu", "class_names": CLASSES, "input_size": (8, 8)}
    without_figures(judge(network, drawn_maps(), **fixed), 1, 5)  # type: ignore[arg-type]
    assert not no_figures_said(judged_maps(), "the student")


def test_every_rank_knows_of_the_images_of_the_others() -> None:
    logits_NK = LOGITS.clone()
    logits_NK[0] = math.nan
    sums: list[list[Tensor]] = [[], []]
    for rank in range(2):
        classes(says(logits_NK), rank=rank, world=2, reduce=lambda one, r=rank: sums[r].append(one) or one)
    assert torch.stack([seen[1] for seen in sums]).sum(0).tolist() == [1, 0]


def test_a_teacher_that_answers_nan_agrees_with_nobody() -> None:
    logits_NK = LOGITS.clone()
    logits_NK[2] = math.nan
    with pytest.raises(NotFinite) as caught:
        classes(says(LOGITS), teacher=says(logits_NK))
    assert str(caught.value) == (
        "the teacher answers infinity or NaN for 1 images\n  where: --teacher\n"
        "  fix:   name another teacher or other --teacher-weights, or leave --teacher out"
    )


def test_a_run_in_which_no_validation_gave_a_figure_exports_no_student(tmp_path: Path) -> None:
    """Not when it ends, and not when it is resumed at its end either."""
    figures = SegmentationMetrics(0.9, {"a": 0.9}, 0.5, 12, 0.1)
    config = replace(CONFIG, steps=2, eval_every=1, save_every=1)

    def assemble(accelerator: Accelerator) -> RunParts:
        return replace(parts(config)(accelerator), evaluate=lambda network: NoFigures(figures, 3))

    for resume in (False, True):
        with pytest.raises(NotFinite) as caught:
            train(config, tmp_path / "r", assemble, resume=resume)
        assert caught.value.what == (
            "no validation gave a figure, at the last one the student answers infinity or NaN for 3 of 12 "
            "images: no student is exported"
        )
        assert caught.value.where == str(tmp_path / "r") and "lower rate than --lr 0.1" in caught.value.fix
    assert not list((tmp_path / "r").glob("student*")) and not (tmp_path / "r" / "network.json").exists()
    assert [line["miou"] for line in read_metrics(tmp_path / "r") if line.get("split") == "val"] == [None] * 2
    assert "NaN" not in (tmp_path / "r" / "metrics.jsonl").read_text()


def test_such_a_student_is_never_the_best_and_the_run_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = SegmentationMetrics(0.9, {"a": 0.9}, 0.5, 12, 0.1)
    answers: list[Metrics] = [NoFigures(figures, 3), figures._replace(miou=0.2), NoFigures(figures, 12)]
    events: list[Event] = []

    def scored(network: nn.Module) -> Metrics:
        return answers.pop(0)

    config = replace(CONFIG, steps=3, eval_every=1, save_every=100)

    def assemble(accelerator: Accelerator) -> RunParts:
        return replace(parts(config)(accelerator), evaluate=scored)

    card = train(config, tmp_path / "r", assemble, listen=events.append)
    assert (card["best/step"], card["best/miou"]) == (2, 0.2) and math.isnan(card["final/miou"])
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    assert [event.best for event in evaluated] == [False, True, False]
    TrainDisplay(Terminal())(evaluated[0])
    assert capsys.readouterr().out.strip() == (
        "step 1: val the student answers infinity or NaN for 3 of 12 images: no figures, never the best"
    )
    assert shown("final/miou", card["final/miou"]) == "-"
