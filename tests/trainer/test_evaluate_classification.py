"""Classification metrics: counted by hand, on centre crops, over ranks, beside a teacher."""

import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from kdcache.cache.errors import BadOption, BadSample
from kdcache.cache.spec import CLASSIFICATION, SEGMENTATION, Task
from kdcache.trainer.judge.classification import answers, centre_geometry, evaluate_classification
from kdcache.trainer.judge.judge import evaluate_any
from kdcache.trainer.judge.metrics import ClassificationMetrics, shown

CLASSES = ("cat", "dog", "owl")
SIZE = (8, 8)


class DrawnClasses:
    """Plain images; the red channel of each is 10 x its number."""

    task: Task = CLASSIFICATION

    def __init__(self, labels: list[int], sizes: list[tuple[int, int]] | None = None) -> None:
        self.labels = labels
        self.sizes = sizes or [SIZE] * len(labels)
        self.num_samples = len(labels)
        self.invalid = np.zeros(0, dtype=np.int64)

    def image(self, index: int) -> np.ndarray:
        pixels = np.full((*self.size(index), 3), (index * 10, 0, 0), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        return np.frombuffer(buffer.getvalue(), dtype=np.uint8)

    def label(self, index: int) -> np.ndarray:
        return np.array([self.labels[index]], dtype=np.int64)

    def key(self, index: int) -> str:
        return f"drawn/{index}"

    def size(self, index: int) -> tuple[int, int]:
        return self.sizes[index]


def says(logits_NK: Tensor) -> Callable[[Tensor], Tensor]:
    """A network that answers row n for image n."""
    return lambda images_BHWC: logits_NK[(images_BHWC[:, 0, 0, 0].long() / 10).round().long()]


LABELS = [0, 0, 1, 1, 1, 0, 1]
LOGITS = torch.randn(7, 3, generator=torch.Generator().manual_seed(3)) * 2


def judged(source: DrawnClasses | None = None, **options: object) -> ClassificationMetrics:
    given = {"device": "cpu", "class_names": CLASSES, "input_size": SIZE, "batch_size": 2, **options}
    return evaluate_classification(says(LOGITS), source or DrawnClasses(LABELS), **given)  # type: ignore[arg-type]


def ece_by_hand(logits_NK: Tensor, labels: list[int]) -> float:
    """Guo et al. 2017, equation 3: 15 bins (a, b], weighted by how many images fall in."""
    p_NK = logits_NK.double().softmax(1).numpy()
    confidence, hit = p_NK.max(1), p_NK.argmax(1) == np.array(labels)
    total = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    return total


def test_metrics_equal_those_counted_by_hand() -> None:
    found = judged()
    hits = (LOGITS.argmax(1) == torch.tensor(LABELS)).double()
    nll = [-math.log(float(LOGITS[i].double().softmax(0)[y])) for i, y in enumerate(LABELS)]
    assert found.num_images == 7
    assert found.top1 == found.score == pytest.approx(float(hits.mean()))
    assert found.nll == pytest.approx(sum(nll) / 7, rel=1e-5)
    assert found.ece == pytest.approx(ece_by_hand(LOGITS, LABELS), rel=1e-5)
    assert found.per_class["cat"] == pytest.approx(float(hits[[0, 1, 5]].mean()))
    assert math.isnan(found.per_class["owl"]), "no owl was shown"


def test_top5_of_three_classes_looks_at_three_and_of_many_at_five() -> None:
    assert judged().top5 == 1.0
    rising_BK = torch.arange(7.0).repeat(7, 1)  # class 6 first, class 0 last
    labels = torch.arange(7)
    assert answers(rising_BK, labels, None).hit5.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert answers(rising_BK, labels, None).hit.tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_agreement_and_divergence_are_measured_on_the_same_pixels() -> None:
    teacher = LOGITS.clone()
    teacher[0] = teacher[0].roll(1)
    found = judged(teacher=says(teacher))
    t, s = teacher.double().log_softmax(1), LOGITS.double().log_softmax(1)
    assert found.agreement == pytest.approx(6 / 7)
    assert found.teacher_kl == pytest.approx(float((t.exp() * (t - s)).sum(1).mean()), rel=1e-5)
    assert list(found.named()) == ["top1", "top5", "nll", "ece", "agreement", "teacher_kl"]
    assert list(judged().named()) == ["top1", "top5", "nll", "ece"]


def test_a_teacher_of_other_classes_is_refused() -> None:
    with pytest.raises(BadOption, match="the teacher answers 2 classes, the student 3"):
        judged(teacher=says(LOGITS[:, :2]))


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_answer_bit_for_bit_what_one_rank_answers(world: int) -> None:
    """Five ranks and four batches: one of them has nothing to judge."""
    tables: list[Tensor] = []

    def keep(table: Tensor) -> Tensor:
        tables.append(table)
        return table

    for rank in range(world):
        judged(rank=rank, world=world, reduce=keep, teacher=says(LOGITS.flip(0)))
    total = torch.stack(tables).sum(0)
    whole = judged(teacher=says(LOGITS.flip(0)))
    summed = judged(rank=0, world=world, reduce=lambda _: total, teacher=says(LOGITS))
    assert str(summed) == str(whole)  # as text, because nan is not nan
    assert int((torch.stack(tables)[..., 4] > 0).sum()) == 7, "an image was judged twice or never"


def test_several_ranks_without_a_reduction_are_refused() -> None:
    with pytest.raises(BadOption, match="rank 1 of 2 would report its own share only"):
        judged(rank=1, world=2)


def test_a_class_outside_the_network_is_refused_by_name() -> None:
    with pytest.raises(BadSample, match=r"class of 'drawn/1' is 3, the network knows classes 0\.\.2"):
        judged(DrawnClasses([0, 3]))
    assert torch.is_grad_enabled(), "an error must not leave gradients switched off"


def test_invalid_samples_are_left_out_and_none_at_all_is_an_error() -> None:
    source = DrawnClasses(LABELS)
    source.invalid = np.array([1, 3])
    assert judged(source).num_images == 5
    source.invalid = np.arange(7)
    with pytest.raises(BadOption, match="nothing to evaluate: 7 images, none of them valid"):
        judged(source)


def test_images_of_other_sizes_show_the_centre_and_no_border() -> None:
    shapes: list[tuple[int, ...]] = []

    def network(images_BHWC: Tensor) -> Tensor:
        shapes.append(tuple(images_BHWC.shape))
        assert set(images_BHWC[..., 1].unique().tolist()) == {0}, "padding has green in it"
        return torch.zeros(len(images_BHWC), 3)

    source = DrawnClasses(LABELS[:4], [(8, 8), (16, 20), (5, 3), (40, 9)])
    evaluate_classification(network, source, device="cpu", class_names=CLASSES, input_size=SIZE, batch_size=4)
    assert shapes == [(4, 8, 8, 3)]


def test_the_centre_is_7_8_of_the_short_side_and_an_image_of_the_input_size_stays() -> None:
    assert centre_geometry((32, 32), (32, 32)) == (32, 32, 0, 0, 0, 32, 32)
    assert centre_geometry((300, 400), (224, 224)) == (256, 341, 0, 16, 58, 224, 224)
    assert centre_geometry((28, 28), (32, 32)) == (37, 37, 0, 2, 2, 32, 32)


class Modal(nn.Module):
    def forward(self, images_BHWC: Tensor, taps: tuple[str, ...]) -> dict[str, Tensor]:
        assert not self.training and not torch.is_grad_enabled()
        return {tap: torch.zeros(len(images_BHWC), 3) for tap in taps}


def test_student_and_teacher_are_asked_in_evaluation_mode_and_get_their_modes_back() -> None:
    student, teacher = Modal(), Modal().eval()
    evaluate_classification(
        student, DrawnClasses(LABELS), device="cpu", class_names=CLASSES, input_size=SIZE, teacher=teacher
    )
    assert student.training and not teacher.training


def test_a_segmenting_run_has_no_agreement_to_measure() -> None:
    with pytest.raises(BadOption, match="agreement with a teacher is measured for classification"):
        evaluate_any(
            Modal(), DrawnClasses(LABELS), task=SEGMENTATION, device="cpu", class_names=CLASSES,
            input_size=SIZE, teacher=Modal(),
        )  # fmt: skip


def test_figures_are_shown_in_their_unit() -> None:
    assert shown("best/top1", 0.5) == "50.00 %"
    assert shown("nll", 1.25) == "1.2500 nats"
    assert shown("final/step", 40.0) == "40"
