"""Relational KD: against loops, blocks against the direct form, and batches that have no relation."""

import math

import pytest
import torch
from bare_inputs import specs
from term_inputs import build_set, classified, slope_holds, vectors
from torch import Tensor
from torch.nn import functional

from kdcache.cache.spec import TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps
from kdcache.losses.features import rkd_a
from kdcache.losses.features.rkd import Relations
from kdcache.losses.features.rkd_a import Angles, angle_loss, vertex_angles
from kdcache.losses.features.rkd_d import Distances, distance_loss
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs

TERMS: tuple[type[LossTerm], ...] = (Distances, Angles, Relations)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs_for(rows: int) -> StepInputs:
    taps = {"embedding": 6, "logits": 3}
    return classified(
        vectors(taps, rows=rows), vectors({**taps, "embedding": 4}, rows=rows, seed=1), labels=[0] * rows
    )


def total(term: LossTerm, inputs: StepInputs) -> Tensor:
    output = term(inputs)
    if isinstance(output, Tensor):
        return output
    return torch.stack([weighted.weight * weighted.value for weighted in output.values()]).sum()


def slow_angles(embedding: list[list[float]], i: int, j: int, k: int) -> float:
    def unit(a: int, b: int) -> list[float]:
        difference = [p - q for p, q in zip(embedding[b], embedding[a], strict=True)]
        length = max(math.hypot(*difference), 1e-12)
        return [x / length for x in difference]

    return sum(p * q for p, q in zip(unit(i, j), unit(i, k), strict=True))


def test_the_angles_are_the_formula_written_out() -> None:
    student, teacher = drawn(4, 3), drawn(4, 5, seed=1)
    expected = 0.0
    for i in range(4):
        for j in range(4):
            for k in range(4):
                difference = abs(
                    slow_angles(student.tolist(), i, j, k) - slow_angles(teacher.tolist(), i, j, k)
                )
                expected += difference**2 / 2 if difference < 1 else difference - 0.5
    assert angle_loss(student, teacher).item() == pytest.approx(expected / 64, rel=1e-12)


@pytest.mark.parametrize("block_bytes", [1, 4000, 1 << 25])
def test_blocks_of_vertices_give_the_direct_form_and_its_gradient(
    block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rkd_a.BLOCK_BYTES, "cpu", block_bytes)
    student, teacher = drawn(7, 3).requires_grad_(), drawn(7, 5, seed=1)
    everything = slice(0, 7)
    direct = functional.smooth_l1_loss(vertex_angles(student, everything), vertex_angles(teacher, everything))
    blocks = angle_loss(student, teacher)
    torch.testing.assert_close(blocks, direct)
    torch.testing.assert_close(*(torch.autograd.grad(v, student)[0] for v in (blocks, direct)))


@pytest.mark.parametrize("name", ["rkd-d", "rkd-a", "rkd"])
def test_the_gradient_is_the_slope(name: str) -> None:
    inputs = inputs_for(5)
    assert slope_holds(build_set(f"{name}+task(weight=0)", inputs), inputs)


def test_one_row_is_no_number_for_the_published_formula_of_distances() -> None:
    assert distance_loss(drawn(1, 3), drawn(1, 3)).isnan()


@pytest.mark.parametrize("term", TERMS)
def test_a_batch_of_one_row_gives_zero_and_a_zero_gradient(term: type[LossTerm]) -> None:
    inputs = inputs_for(1)
    value = total(term(Maps(specs(inputs.student), specs(inputs.teacher))), inputs)
    (slope,) = torch.autograd.grad(value, inputs.student["embedding"])
    assert value.item() == 0 and not slope.any()


def test_two_rows_have_one_distance_and_no_angle() -> None:
    assert distance_loss(drawn(2, 3), drawn(2, 3, seed=1)).item() == 0
    assert angle_loss(drawn(2, 3), drawn(2, 3, seed=1)).item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("formula", [distance_loss, angle_loss])
def test_a_student_that_maps_everything_to_one_point_has_a_finite_gradient(formula: object) -> None:
    student = torch.ones(4, 3).requires_grad_()
    value = formula(student, drawn(4, 3).float())  # type: ignore[operator]
    assert value.isfinite() and torch.autograd.grad(value, student)[0].isfinite().all()


@pytest.mark.parametrize("term", TERMS)
def test_maps_count_as_the_means_of_their_cells(term: type[LossTerm]) -> None:
    student, teacher = drawn(4, 3, 2, 5), drawn(4, 6, 2, 5, seed=1)
    maps = classified({"embedding": student}, {"embedding": teacher}, labels=[0] * 4)
    pooled = classified(
        {"embedding": student.mean((2, 3))}, {"embedding": teacher.mean((2, 3))}, labels=[0] * 4
    )
    values = [total(term(Maps(specs(i.student), specs(i.teacher))), i) for i in (maps, pooled)]
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("name", ["rkd", "rkd-d", "rkd-a"])
def test_a_student_of_another_stride_is_taken_because_means_are_compared(name: str) -> None:
    plan = parse_losses(name, preset=None, task=SEGMENTATION)
    scores = TensorSpec((3, 3, 2), 16)
    student = {"neck": TensorSpec((3, 3, 4), 16), "logits": scores}
    losses = plan.build(student=student, teacher={"neck": TensorSpec((6, 6, 5), 8)})
    assert name in losses.terms


def test_the_recipe_of_metric_learning_scales_the_teacher_alone() -> None:
    inputs = inputs_for(5)
    maps = Maps(specs(inputs.student), specs(inputs.teacher))
    scaled = functional.normalize(inputs.teacher["embedding"], dim=1)
    wanted = distance_loss(inputs.student["embedding"], scaled) + 2 * angle_loss(
        inputs.student["embedding"], scaled
    )
    value = total(Relations(maps, distance=1.0, angle=2.0, unit="teacher"), inputs)
    torch.testing.assert_close(value, wanted)
    assert not torch.isclose(value, total(Relations(maps, distance=1.0, angle=2.0), inputs))


@pytest.mark.parametrize("term", TERMS)
def test_turned_views_do_not_count(term: type[LossTerm]) -> None:
    inputs = inputs_for(8)
    maps = Maps(specs(inputs.student), specs(inputs.teacher))
    student, teacher = ({"embedding": side["embedding"][::4]} for side in (inputs.student, inputs.teacher))
    plain = classified(student, teacher, labels=[0, 0])
    turned = inputs._replace(rows_per_sample=4)
    torch.testing.assert_close(total(term(maps), turned), total(term(maps), plain))
