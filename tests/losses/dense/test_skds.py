"""Structured distillation: its three terms by one name, the pair-wise forms, the pixel-wise reduction."""

import pytest
import torch
from bare_inputs import step_inputs
from torch import Tensor
from torch.nn import functional

from kdcache.cache.spec import BadOption, TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import Maps
from kdcache.losses.dense.skds_pair import PairWise, pairwise_loss
from kdcache.losses.dense.skds_pixel import PixelWise
from kdcache.losses.plan.plan import parse_losses


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(height: int, width: int) -> Maps:
    return Maps({"neck": TensorSpec((height, width, 3), 8)}, {"neck": TensorSpec((height, width, 5), 8)})


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("skds", {"skds": 0.5, "skds-pixel": 10.0, "skds-holistic": 0.1}),
        ("skds(skds-holistic=0)", {"skds": 0.5, "skds-pixel": 10.0}),
        ("skds(weight=2,skds-pixel=0,skds-holistic=0.3)", {"skds": 2.0, "skds-holistic": 0.3}),
        ("skds+skds-holistic(optimizer=adam)", {"skds": 0.5, "skds-pixel": 10.0, "skds-holistic": 0.1}),
        ("skds-pair(form=cirkd)+kd", {"skds-pair": 10.0, "kd": 1.0}),
    ],
)
def test_the_name_brings_three_terms_and_each_can_be_replaced(
    expression: str, expected: dict[str, float]
) -> None:
    plan = parse_losses(expression, preset=None, task=SEGMENTATION)
    assert {term.label: term.weight for term in plan.terms} == {"task": 1.0, **expected}
    again = parse_losses(plan.written(), preset=None, task=SEGMENTATION)
    assert [(t.label, t.weight, t.options) for t in again.terms] == [
        (t.label, t.weight, t.options) for t in plan.terms
    ]


def test_the_published_pooling_leaves_a_few_nodes_and_the_other_a_quarter_of_the_cells() -> None:
    assert PairWise(maps(65, 65)).kernel == (32, 32)
    assert PairWise(maps(64, 128), share=0.25).kernel == (16, 32)
    assert PairWise(maps(64, 128), form="cirkd", share=0.25).kernel == (2, 2)
    pooled = functional.max_pool2d(drawn(1, 2, 65, 65, seed=0), 32, ceil_mode=True)
    assert pooled.shape[-2:] == (3, 3)


def test_the_ordinary_form_has_the_gradient_of_its_value() -> None:
    student, teacher = drawn(2, 3, 3, 4, seed=1).requires_grad_(), drawn(2, 5, 3, 4, seed=2)
    assert torch.autograd.gradcheck(
        lambda s: pairwise_loss(s, teacher, kernel=(2, 2), form="cirkd"), (student,)
    )


def test_the_published_form_takes_the_norm_as_a_constant() -> None:
    student, teacher = drawn(1, 3, 2, 2, seed=1).requires_grad_(), drawn(1, 5, 2, 2, seed=2)
    (slope,) = torch.autograd.grad(pairwise_loss(student, teacher, kernel=(1, 1), form="skds"), student)
    norm = student.detach().norm(dim=1, keepdim=True)

    def fixed_norm(map_BCHW: Tensor) -> Tensor:
        mine = (map_BCHW / norm).flatten(2)
        theirs = functional.normalize(teacher, dim=1).flatten(2)
        return (mine.transpose(1, 2) @ mine - theirs.transpose(1, 2) @ theirs).square().mean()

    (wanted,) = torch.autograd.grad(fixed_norm(student), student)
    torch.testing.assert_close(slope, wanted, rtol=1e-6, atol=1e-9)
    radial = (slope * student.detach()).sum(1)
    assert radial.abs().max() > 1e-3, "an ordinary unit norm has no gradient along the vector"


def test_a_map_of_zeros_has_no_nan_in_its_gradient() -> None:
    for form in ("skds", "cirkd"):
        student = torch.zeros(1, 3, 4, 4, requires_grad=True)
        loss = pairwise_loss(student, drawn(1, 5, 4, 4, seed=2).float(), kernel=(2, 2), form=form)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(loss, student)
        assert gradient.isfinite().all()


def test_a_share_below_one_cell_is_refused_with_one_that_fits() -> None:
    with pytest.raises(BadOption) as caught:
        PairWise(maps(6, 20), share=0.1)
    assert caught.value.what == "share 0.1 of a 6x20 map is a pooling kernel of 0x2 cells"
    assert caught.value.where == "loss term 'skds-pair'"
    assert caught.value.fix == "a share from 0.167 on, such as share=0.5, or a larger crop"
    with pytest.raises(BadOption, match=r"fix:   a share from 1 on, such as share=1, or a larger crop"):
        PairWise(maps(1, 1))


def test_the_pixel_wise_term_sums_over_images_and_keeps_the_teacher_s_entropy() -> None:
    spec = {"logits": TensorSpec((2, 3, 4), 8)}
    teacher = drawn(3, 4, 2, 3, seed=1)
    student = teacher.clone().requires_grad_()
    loss = PixelWise(Maps(spec, spec))(step_inputs({"logits": student}, {"logits": teacher}))
    posterior = teacher.softmax(1)
    entropy = -(posterior * posterior.log()).sum(1)
    assert loss.item() == pytest.approx(entropy.sum().item() / 6, rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.abs().max() < 1e-15
