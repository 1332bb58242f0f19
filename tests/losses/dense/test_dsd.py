"""DSD: attention residuals between depths, class similarities, students without an auxiliary head."""

import pytest
import torch
from bare_inputs import specs, step_inputs
from torch import Tensor

from kdcache.cache.spec import BadOption, Need, TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import Maps
from kdcache.losses.dense.dsd import DoubleSimilarity, class_similarity, pixel_similarity, residuals
from kdcache.losses.plan.plan import parse_losses


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def networks(*, aux: bool = True) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    student = {"neck": drawn(2, 4, 3, 5, seed=1), "logits": drawn(2, 6, 3, 5, seed=2).requires_grad_()}
    if aux:
        student["aux"] = drawn(2, 6, 3, 5, seed=3)
    teacher = {
        "aux": drawn(2, 6, 3, 5, seed=4),
        "neck": drawn(2, 8, 3, 5, seed=5),
        "logits": drawn(2, 6, 3, 5, seed=6),
    }
    return student, teacher


def test_gradients_are_those_of_the_values() -> None:
    first, second = drawn(2, 3, 2, 3, seed=1).requires_grad_(), drawn(2, 4, 2, 3, seed=2).requires_grad_()
    teacher = [drawn(2, 5, 2, 3, seed=3), drawn(2, 6, 2, 3, seed=4)]
    assert torch.autograd.gradcheck(lambda a, b: pixel_similarity([a, b], teacher), (first, second))
    scores = drawn(2, 4, 3, 5, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: class_similarity(s, drawn(2, 4, 3, 5, seed=6), tau=1.0), (scores,)
    )


def test_an_edge_window_averages_only_what_is_there() -> None:
    scores = torch.zeros(1, 2, 3, 3, dtype=torch.float64)
    scores[0, 0, 2, 2] = 8.0  # alone in its window: its mean is 8, not 2
    shares = torch.tensor([0.0, 0.0, 0.0, 8.0], dtype=torch.float64).div(4).softmax(0)
    even = torch.full((4,), 0.25, dtype=torch.float64)
    rows = torch.stack((shares, even))
    wanted = (rows @ rows.T - torch.full((2, 2), 0.25, dtype=torch.float64)).square().mean()
    assert class_similarity(scores, torch.zeros_like(scores), tau=4.0).item() == pytest.approx(wanted.item())


def test_a_student_without_aux_uses_its_logits_there_with_a_usable_gradient() -> None:
    student, teacher = networks(aux=False)
    term = DoubleSimilarity(Maps(specs(student), specs(teacher)))
    assert term.notes == ("dsd: the student has no tap 'aux', its logits stand there, as published",)
    terms = term(step_inputs(student, teacher))
    logits = student["logits"]
    r_01, r_02, r_12 = residuals([logits, student["neck"], logits])
    assert r_02.count_nonzero() == 0
    theirs = residuals([teacher["aux"], teacher["neck"], teacher["logits"]])
    wanted = [(m - t).square().mean() for m, t in zip((r_01, r_02, r_12), theirs, strict=True)]
    assert terms["psd"].value.item() == pytest.approx(sum(wanted).item() / 3)  # type: ignore[union-attr]
    (gradient,) = torch.autograd.grad(terms["psd"].value, logits)
    # Through the norm of 0 the pair (0, 2) would send 1e12 and back, and drown the other two in rounding.
    (clean,) = torch.autograd.grad((wanted[0] + wanted[2]) / 3, logits)
    torch.testing.assert_close(gradient, clean, rtol=1e-9, atol=1e-15)


def test_what_is_read_follows_the_options() -> None:
    plan = parse_losses("dsd", preset=None, task=SEGMENTATION)
    assert plan.student_taps == ("logits", "neck")
    assert plan.optional_student_taps == ("aux",)
    assert {need.tap for need in plan.needs} == {"aux", "neck", "logits"}
    assert parse_losses("dsd(lambda_psd=0)", preset=None, task=SEGMENTATION).needs == (Need(tap="logits"),)
    assert {
        need.tap for need in parse_losses("dsd(taps=stage4/neck)", preset=None, task=SEGMENTATION).needs
    } == {
        "stage4",
        "neck",
        "logits",
    }
    student, teacher = networks()
    only = DoubleSimilarity(Maps(specs(student), specs(teacher)), lambda_psd=0.0)
    assert list(only(step_inputs(student, teacher))) == ["csd"]


def test_maps_that_cannot_be_compared_are_refused() -> None:
    student, teacher = networks()
    with pytest.raises(BadOption) as caught:
        DoubleSimilarity(Maps(specs(student), specs(teacher)), taps="neck")
    assert caught.value.fix == "for example dsd(taps=neck/logits)"
    wrong = {**specs(teacher), "neck": TensorSpec((6, 10, 8), 4)}
    with pytest.raises(BadOption, match="student tap 'neck' is 3x5") as caught:
        DoubleSimilarity(Maps(specs(student), wrong))
    assert caught.value.where == "loss term 'dsd'"
    with pytest.raises(BadOption, match="student tap 'aux' beside 'logits' is 6x10"):
        both = TensorSpec((6, 10, 6), 4)
        DoubleSimilarity(Maps({**specs(student), "aux": both}, {**specs(teacher), "aux": both}))
