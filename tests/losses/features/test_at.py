"""Attention transfer: what it reads, from whole maps or from their attention, and maps without activity."""

import pytest
import torch
from bare_inputs import specs, step_inputs
from torch import Tensor

from kdcache.cache.codecs.reduction import load_reduction, reduced_spec
from kdcache.cache.spec import BadOption, TensorSpec
from kdcache.losses.contract import Maps
from kdcache.losses.features.at import REDUCTION, AttentionTransfer, attention_distance, attention_map
from kdcache.losses.plan.plan import parse_losses


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_gradient_is_the_slope() -> None:
    teacher = drawn(2, 5, 3, 4, seed=1)
    student = drawn(2, 3, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: attention_distance(s, teacher), student, fast_mode=True)


def test_a_cache_of_attention_maps_gives_the_loss_of_a_cache_of_maps() -> None:
    student, teacher = {"stage2": drawn(2, 3, 3, 4)}, drawn(2, 5, 3, 4, seed=1)
    (need,) = AttentionTransfer.reads({"taps": "stage2", "cache": "attention"}).needs
    reduced = load_reduction(need.reduction, may_import=False)(teacher)
    assert reduced.shape == (2, 1, 3, 4) and need.name == "stage2.attention_map"
    values = []
    for cache, targets in (("map", {"stage2": teacher}), ("attention", {need.name: reduced})):
        term = AttentionTransfer(Maps(specs(student), specs(targets)), taps="stage2", cache=cache)  # type: ignore[arg-type]
        values.append(term(step_inputs(student, targets)))
    torch.testing.assert_close(*values)


def test_the_reduction_keeps_one_channel_that_half_precision_can_hold() -> None:
    spec = reduced_spec(REDUCTION, TensorSpec((6, 8, 512), 8))
    assert spec == TensorSpec((6, 8, 1), 8)
    assert attention_map(torch.full((1, 4, 2, 2), 1000.0)).half().isfinite().all()


def test_a_map_without_activity_has_no_gradient_and_no_nan() -> None:
    student = torch.zeros(1, 3, 2, 2).requires_grad_()
    value = attention_distance(student, drawn(1, 3, 2, 2).float())
    assert value.isfinite() and not torch.autograd.grad(value, student)[0].any()


@pytest.mark.parametrize(
    ("task", "taps", "weight", "kd"),
    [
        ("segmentation", ("logits", "neck"), 10000.0, 1.0),
        ("classification", ("logits", "stage1", "stage2", "stage3"), 1000.0, None),
    ],
)
def test_each_task_has_its_published_setting(
    task: str, taps: tuple[str, ...], weight: float, kd: float | None
) -> None:
    plan = parse_losses("at", preset=None, task=task)
    weights = {term.name: term.weight for term in plan.terms}
    assert plan.student_taps == taps and weights["at"] == weight and weights.get("kd") == kd
    assert parse_losses(plan.written(), preset=None, task=task).written() == plan.written()


def test_several_maps_are_summed() -> None:
    student = {f"stage{n}": drawn(2, 3, 3, 4, seed=n) for n in (1, 2)}
    teacher = {tap: drawn(2, 5, 3, 4, seed=9) for tap in student}
    both = AttentionTransfer(Maps(specs(student), specs(teacher)), taps="stage1/stage2")
    alone = [attention_distance(student[tap], teacher[tap]) for tap in student]
    torch.testing.assert_close(both(step_inputs(student, teacher)), alone[0] + alone[1])


@pytest.mark.parametrize(
    ("taps", "cache", "text"),
    [
        ("", "map", "names no tap\n.*taps=''\n.*taps=stage1/stage2"),
        ("embedding", "map", "'embedding' is a vector of 7 values.*\n.*'at'\n.*name maps"),
        ("stage2", "attention", "student tap 'stage2' is 3x4.*teacher's is 6x8.*\n.*'at'\n.*--output-stride"),
    ],
)
def test_what_has_no_attention_is_refused(taps: str, cache: str, text: str) -> None:
    student = {"stage2": TensorSpec((3, 4, 5), 8), "embedding": TensorSpec((7,), 0)}
    teacher = {"stage2.attention_map": TensorSpec((6, 8, 1), 4), "embedding": TensorSpec((7,), 0)}
    with pytest.raises(BadOption, match=text):
        AttentionTransfer(Maps(student, teacher), taps=taps, cache=cache)  # type: ignore[arg-type]
