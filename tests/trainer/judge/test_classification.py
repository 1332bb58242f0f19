"""Classification metrics: counted by hand, on centre crops, over ranks, beside a teacher."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from judged_cases import CLASSES, LABELS, LOGITS, SIZE, DrawnClasses, judged_classes, says
from torch import Tensor

from kdcache.cache.errors import BadOption, BadSample
from kdcache.trainer.judge.classification import Judge, figures_of
from kdcache.trainer.judge.pictures import draw_predictions


def ece_by_hand(logits_NK: Tensor, labels: list[int]) -> float:
    """Guo et al. 2017, equation 3: 15 bins (a, b], weighted by how many images fall in."""
    p_NK = logits_NK.double().softmax(1)
    confidence, hit = p_NK.max(1).values.numpy(), (p_NK.argmax(1) == torch.tensor(labels)).numpy()
    total = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    return total


def test_metrics_equal_those_counted_by_hand() -> None:
    metrics = judged_classes()
    hits = (LOGITS.argmax(1) == torch.tensor(LABELS)).double()
    nll = [-math.log(float(LOGITS[i].double().softmax(0)[y])) for i, y in enumerate(LABELS)]
    assert metrics.num_images == 7
    assert metrics.top1 == metrics.score == pytest.approx(float(hits.mean()))
    assert metrics.nll == pytest.approx(sum(nll) / 7, rel=1e-5)
    assert metrics.ece == pytest.approx(ece_by_hand(LOGITS, LABELS), rel=1e-5)
    assert metrics.per_class["cat"] == pytest.approx(float(hits[[0, 1, 5]].mean()))
    assert math.isnan(metrics.per_class["owl"]), "no owl was shown"
    assert (metrics.per_class_key, metrics.per_class_title) == ("per_class_accuracy", "accuracy %")


def test_top5_of_three_classes_looks_at_three_and_of_many_at_five() -> None:
    assert judged_classes().top5 == 1.0
    rising_BK = torch.arange(7.0).repeat(7, 1)  # class 6 first, class 0 last
    labels = torch.arange(7)
    assert figures_of(rising_BK, labels, None).hit5.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert figures_of(rising_BK, labels, None).hit.tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_agreement_and_divergence_are_measured_on_the_same_pixels() -> None:
    teacher = LOGITS.clone()
    teacher[0] = teacher[0].roll(1)
    metrics = judged_classes(teacher=says(teacher))
    t, s = teacher.double().log_softmax(1), LOGITS.double().log_softmax(1)
    assert metrics.agreement == pytest.approx(6 / 7)
    assert metrics.teacher_kl == pytest.approx(float((t.exp() * (t - s)).sum(1).mean()), rel=1e-5)
    assert list(metrics.named()) == ["top1", "top5", "nll", "ece", "agreement", "teacher_kl"]
    assert list(judged_classes().named()) == ["top1", "top5", "nll", "ece"]


def test_a_teacher_of_other_classes_is_refused() -> None:
    with pytest.raises(BadOption, match="the teacher answers 2 classes, the student 3"):
        judged_classes(teacher=says(LOGITS[:, :2]))


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_answer_bit_for_bit_what_one_rank_answers(world: int) -> None:
    """Five ranks and four batches: one of them has nothing to judge."""
    tables: list[Tensor] = []

    def keep(table: Tensor) -> Tensor:
        tables.append(table)
        return table

    for rank in range(world):
        judged_classes(rank=rank, world=world, reduce=keep, teacher=says(LOGITS.flip(0)))
    tables, bad = tables[::2], tables[1::2]
    sums = iter([torch.stack(tables).sum(0), torch.stack(bad).sum(0)])
    whole = judged_classes(teacher=says(LOGITS.flip(0)))
    summed = judged_classes(rank=0, world=world, reduce=lambda _: next(sums), teacher=says(LOGITS))
    assert str(summed) == str(whole)  # as text, because nan is not nan
    assert int((torch.stack(tables)[..., 4] > 0).sum()) == 7, "an image was judged twice or never"


def test_a_class_outside_the_network_is_refused_by_name() -> None:
    with pytest.raises(BadSample, match=r"class of 'drawn/1' is 3, the network knows classes 0\.\.2"):
        judged_classes(DrawnClasses([0, 3]))
    assert torch.is_grad_enabled(), "an error must not leave gradients switched off"


def test_images_of_other_sizes_show_the_centre_and_no_border() -> None:
    shapes: list[tuple[int, ...]] = []

    def network(images_BHWC: Tensor) -> dict[str, Tensor]:
        shapes.append(tuple(images_BHWC.shape))
        assert set(images_BHWC[..., 1].unique().tolist()) == {0}, "padding has green in it"
        return {"logits": torch.zeros(len(images_BHWC), 3)}

    samples = DrawnClasses(LABELS[:4], [(8, 8), (16, 20), (5, 3), (40, 9)])
    judged_classes(samples, network, input_size=SIZE, batch_size=4)
    assert shapes == [(4, 8, 8, 3)]


def test_the_centre_is_7_8_of_the_short_side_and_an_image_of_the_input_size_stays() -> None:
    geometry = Judge(CLASSES).geometry
    assert geometry((32, 32), (32, 32)) == (32, 32, 0, 0, 0, 32, 32)
    assert geometry((300, 400), (224, 224)) == (256, 341, 0, 16, 58, 224, 224)
    assert geometry((28, 28), (32, 32)) == (37, 37, 0, 2, 2, 32, 32)


def test_what_a_classifier_says_is_no_picture(tmp_path: Path) -> None:
    source: Any = SimpleNamespace(task=DrawnClasses.task, name="pets", class_names=CLASSES, describe=dict)
    with pytest.raises(BadOption, match="are of segmentation, and pets has one class an image"):
        draw_predictions({}, source, [0], tmp_path / "out.png")
