"""The loop of every judge: which images, over which ranks, in which mode, and what it refuses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from judged_cases import (
    CLASSES,
    LABELS,
    SIZE,
    DrawnClasses,
    DrawnMaps,
    drawn_classes,
    drawn_maps,
    judged_classes,
    judged_maps,
    red_is_class,
)
from torch import Tensor, nn

from kdcache.cache.errors import BadOption, BadSample
from kdcache.cache.tasks.table import task_names, task_row
from kdcache.cache.views.view import Geometry
from kdcache.trainer.judge.contract import JudgedImage
from kdcache.trainer.judge.judge import judge, judge_of
from kdcache.trainer.judge.metrics import shown

BOTH = pytest.mark.parametrize(
    ("judged", "drawn"), [(judged_maps, drawn_maps), (judged_classes, drawn_classes)]
)
Judged, Drawn = Callable[..., Any], Callable[[], DrawnMaps | DrawnClasses]


@BOTH
def test_several_ranks_without_a_reduction_are_refused(judged: Judged, drawn: Drawn) -> None:
    with pytest.raises(BadOption, match="rank 1 of 2 would report its own share only"):
        judged(drawn(), rank=1, world=2)


@BOTH
def test_invalid_samples_are_left_out(judged: Judged, drawn: Drawn) -> None:
    samples = drawn()
    samples.invalid = np.array([1, 3])
    assert judged(samples).num_images == samples.num_samples - 2


@BOTH
def test_nothing_to_evaluate_is_an_error_not_a_nan(judged: Judged, drawn: Drawn) -> None:
    samples = drawn()
    samples.invalid = np.arange(samples.num_samples)
    nothing = f"nothing to evaluate: {samples.num_samples} images, none of them valid"
    with pytest.raises(BadOption, match=nothing):
        judged(samples)


@BOTH
def test_an_image_that_cannot_be_decoded_is_named(judged: Judged, drawn: Drawn) -> None:
    samples = drawn()
    whole = samples.image
    samples.image = lambda index: whole(index)[: 20 if index == 3 else None]  # type: ignore[method-assign]
    with pytest.raises(BadSample, match=r"image cannot be decoded[^\n]*\n.*drawn/3"):
        judged(samples)
    assert torch.is_grad_enabled(), "an error must not leave gradients switched off"


@BOTH
def test_a_rank_without_images_judges_none(judged: Judged, drawn: Drawn) -> None:
    """Rank 9 of 10 has no group of its own; the others' table is what it reports."""
    tables: list[Tensor] = []
    judged(drawn(), reduce=lambda table: tables.append(table.clone()) or table)
    others = iter(tables)  # the table, then how many answers are not finite
    last = judged(drawn(), rank=9, world=10, reduce=lambda table: table + next(others))
    assert str(last) == str(judged(drawn())), "as text, because nan is not nan"


class FrozenPart(nn.Module):
    """A network with a 'logits' tap, whose normalisation is frozen while the rest trains."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.BatchNorm2d(3)
        self.trained = nn.Dropout(0.9)
        self.seen: list[bool] = []

    def forward(self, images_BHWC: Tensor, taps: tuple[str, ...]) -> dict[str, Tensor]:
        assert taps == ("logits",) and not torch.is_grad_enabled()
        self.seen.append(self.training or self.frozen.training or self.trained.training)
        return red_is_class(images_BHWC)


def test_a_network_is_evaluated_in_evaluation_mode_and_gets_its_modes_back() -> None:
    network = FrozenPart()
    network.frozen.eval()
    judged_maps(network=network)
    assert network.seen == [False] * 5
    assert (network.training, network.frozen.training, network.trained.training) == (True, False, True)


class Modal(nn.Module):
    def forward(self, images_BHWC: Tensor, taps: tuple[str, ...]) -> dict[str, Tensor]:
        assert not self.training and not torch.is_grad_enabled()
        return {tap: torch.zeros(len(images_BHWC), 3) for tap in taps}


def test_student_and_teacher_are_asked_in_evaluation_mode_and_get_their_modes_back() -> None:
    student, teacher = Modal(), Modal().eval()
    judged_classes(network=student, teacher=teacher)
    assert student.training and not teacher.training


def test_precision_is_lowered_where_it_is_asked_for_only() -> None:
    kinds: list[torch.dtype] = []

    def network(images_BHWC: Tensor) -> dict[str, Tensor]:
        features_B3 = images_BHWC.float().mean((1, 2))
        kinds.append((features_B3 @ torch.eye(3)).dtype)
        return {"logits": features_B3}

    judged_classes(network=network, batch_size=7)
    judged_classes(network=network, batch_size=7, amp=torch.bfloat16)
    assert kinds == [torch.float32, torch.bfloat16]


def test_an_unknown_task_is_refused_and_not_taken_for_another() -> None:
    with pytest.raises(BadOption, match="unknown task 'tagging'"):
        judge(
            Modal(), DrawnClasses(LABELS), task="tagging", device="cpu", class_names=CLASSES, input_size=SIZE
        )


@pytest.mark.parametrize("task", task_names())
def test_every_judge_chooses_by_one_of_its_own_figures(task: str) -> None:
    counting = judge_of(task, CLASSES)
    assert type(counting).__module__ == task_row(task).judge.partition(":")[0]
    image = JudgedImage(0, SIZE, Geometry(*SIZE, 0, 0, 0, *SIZE), np.zeros((0, 8)))
    metrics = counting.metrics(counting.table(1, torch.device("cpu")), iter([image]), with_teacher=False)
    assert metrics.score_name == counting.score_name in metrics.named()
    assert str(metrics.named()[metrics.score_name]) == str(metrics.score)


def test_figures_are_shown_in_their_unit() -> None:
    assert shown("best/top1", 0.5) == "50.00 %"
    assert shown("nll", 1.25) == "1.2500 nats"
    assert shown("final/step", 40.0) == "40"
