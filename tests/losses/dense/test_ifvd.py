"""IFVD: prototypes per image, ignored pixels, classes without a pixel, labels at map size, companions."""

import pytest
import torch
from bare_inputs import step_inputs
from torch import Tensor

from kdcache.cache.spec import IGNORE, BadOption, TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import Facts, Maps
from kdcache.losses.dense.ifvd import IntraClassVariation, variation_loss
from kdcache.losses.dense.labels import nearest_labels
from kdcache.losses.plan.plan import parse_losses


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_variation(map_BCHW: Tensor, labels_BHW: Tensor) -> Tensor:
    closeness = torch.ones(labels_BHW.shape, dtype=torch.float64)
    for b, labels in enumerate(labels_BHW):
        for label in labels.unique().tolist():
            if label == IGNORE:
                continue
            chosen = labels == label
            mean = map_BCHW[b][:, chosen].sum(1) / (chosen.sum() + 1e-6)
            for y, x in chosen.nonzero().tolist():
                own = map_BCHW[b, :, y, x]
                closeness[b, y, x] = own @ mean / (own.norm() * mean.norm())
    return closeness


LABELS = torch.tensor([[[0, 0, 2], [2, IGNORE, 0]], [[4, 4, 4], [IGNORE, 1, 1]]])  # class 3 has no pixel


def test_the_loss_is_the_formula_with_prototypes_of_each_image() -> None:
    student, teacher = drawn(2, 4, 2, 3, seed=1), drawn(2, 6, 2, 3, seed=2)
    wanted = (slow_variation(student, LABELS) - slow_variation(teacher, LABELS)).square().mean()
    assert variation_loss(student, teacher, LABELS, 5).item() == pytest.approx(wanted.item(), rel=1e-10)


def test_the_gradient_is_that_of_the_value_also_through_the_prototypes() -> None:
    student, teacher = drawn(2, 4, 2, 3, seed=1).requires_grad_(), drawn(2, 6, 2, 3, seed=2)
    assert torch.autograd.gradcheck(lambda s: variation_loss(s, teacher, LABELS, 5), (student,))


def test_ignored_pixels_add_nothing_and_count_in_the_mean() -> None:
    student, teacher = drawn(2, 4, 2, 3, seed=1).requires_grad_(), drawn(2, 6, 2, 3, seed=2)
    ignored = torch.full((2, 2, 3), IGNORE)
    loss = variation_loss(student, teacher, ignored, 5)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0, abs=1e-25)
    assert gradient.abs().max() < 1e-12
    few = ignored.clone()
    few[:, 0, :2] = LABELS[:, 0, :2]
    (gradient,) = torch.autograd.grad(variation_loss(student, teacher, few, 5), student)
    assert gradient[..., 0, :2].abs().min() > 0
    assert gradient[..., 1, :].abs().max() < 1e-12


def test_a_feature_of_zeros_keeps_the_gradient_finite() -> None:
    student = torch.zeros(1, 4, 2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        variation_loss(student, drawn(1, 6, 2, 3, seed=2).float(), LABELS[:1], 5), student
    )
    assert gradient.isfinite().all()


def test_labels_come_to_the_map_s_size_by_the_floor_of_the_ratio() -> None:
    labels = torch.arange(5 * 7).reshape(1, 5, 7)
    assert nearest_labels(labels, 2, 3)[0].tolist() == [[0, 2, 4], [14, 16, 18]]
    assert torch.equal(nearest_labels(labels, 5, 7), labels)
    spec = {"neck": TensorSpec((2, 3, 4), 8)}
    term = IntraClassVariation(Maps(spec, spec, Facts(num_classes=5)))
    student, teacher = drawn(2, 4, 2, 3, seed=1), drawn(2, 4, 2, 3, seed=2)
    large = LABELS.repeat_interleave(8, 1).repeat_interleave(8, 2)
    loss = term(step_inputs({"neck": student}, {"neck": teacher}, large))
    assert loss.item() == variation_loss(student, teacher, LABELS, 5).item()


def test_kd_and_the_published_critic_come_along_and_can_be_left_out() -> None:
    plan = parse_losses("ifvd(skds-holistic=0)", preset=None, task=SEGMENTATION)
    assert {term.label: term.weight for term in plan.terms} == {"task": 1.0, "ifvd": 20.0, "kd": 1.0}
    plan = parse_losses("ifvd", preset=None, task=SEGMENTATION)
    critic = next(term for term in plan.terms if term.name == "skds-holistic")
    assert critic.weight == 0.001
    cirkds = {"adversarial": "hinge", "optimizer": "adam", "first": "student", "rate": "constant"}
    assert {name: critic.options[name] for name in cirkds} == cirkds
    assert critic.options["statistics"] == "all"
    plan = parse_losses(
        "ifvd(weight=200)+kd(form=ifvd,weight=10)+skds-holistic(weight=0.001)", preset=None, task=SEGMENTATION
    )
    assert {t.label: t.weight for t in plan.terms}["skds-holistic"] == 0.001


def test_without_the_number_of_classes_there_is_no_prototype() -> None:
    spec = {"neck": TensorSpec((2, 3, 4), 8)}
    with pytest.raises(BadOption) as caught:
        IntraClassVariation(Maps(spec, spec))
    assert caught.value.what == "the number of classes is not known"
    assert caught.value.where == "loss term 'ifvd'"
