"""No view, level, batch or class list is too poor for a loss: finite value and gradient, in any precision."""

from collections.abc import Sequence

import pytest
import torch
from dense_inputs import CLASSES, GRIDS, OBJECTS, Scene, dense_set, scene
from torch import Tensor

from kdcache.losses.step_inputs import StepInputs

LOSSES = ("bckd", "bckd(skip_levels=off)", "ld", "gid", "fgd", "pkd", "mgd", "gdd", "cwd", "cwd(taps=fpn)",
          "fitnet", "at")  # fmt: skip
POOR: dict[str, Sequence[Sequence[Sequence[float]]]] = {
    "every image has objects": OBJECTS,
    "one image has none": (OBJECTS[0], ()),
    "no image has any": ((), ()),
    "one image without any": ((),),
    "a level without a positive": (((4.0, 6.0, 15.0, 15.0, 1),), ()),
    "a box of no area, another over the canvas": (
        ((8.0, 8.0, 8.0, 8.0, 0), (-9.0, -9.0, 200.0, 200.0, 2)),
        (),
    ),
}
HALVED = {
    **{name: POOR[name] for name in POOR if name != "one image without any"},
    "one class": tuple(tuple((*box[:4], 0) for box in boxes) for boxes in OBJECTS),
}
PAIRS = [(loss, detector) for loss in LOSSES for detector in GRIDS if loss != "ld" or detector == "gfl"]


def step(loss: str, given: Scene, dtype: torch.dtype) -> tuple[Tensor, dict[str, Tensor]]:
    """Total, and the gradients of the student's maps and the learned parts."""
    losses = dense_set(loss, given.maps, dtype)
    total = losses(given.inputs).total
    total.backward()
    named = {**given.inputs.student, **dict(losses.named_parameters())}
    return total.detach(), {name: value.grad for name, value in named.items() if value.grad is not None}


def assert_finite(total: Tensor, slopes: dict[str, Tensor]) -> None:
    assert torch.isfinite(total), "the total"
    assert slopes, "nothing has a gradient"
    assert [name for name, slope in slopes.items() if not torch.isfinite(slope).all()] == []


@pytest.mark.parametrize("objects", POOR)
@pytest.mark.parametrize(("loss", "detector"), PAIRS)
def test_a_batch_that_is_poor_in_objects(loss: str, detector: str, objects: str) -> None:
    given = scene(GRIDS[detector], objects=POOR[objects], dtype=torch.float32)
    assert_finite(*step(loss, given, torch.float32))


@pytest.mark.parametrize("loss", ["bckd", "ld"])
def test_a_batch_without_an_object_costs_nothing_where_positives_are_distilled(loss: str) -> None:
    total, slopes = step(loss, scene(objects=((), ())), torch.float64)
    assert total == 0 and not any(slope.any() for slope in slopes.values())


@pytest.mark.parametrize(("loss", "detector"), PAIRS)
def test_one_class(loss: str, detector: str) -> None:
    given = scene(GRIDS[detector], objects=HALVED["one class"], classes=1)
    assert_finite(*step(loss, given, torch.float64))


@pytest.mark.parametrize(("loss", "detector"), PAIRS)
def test_one_position_per_level(loss: str, detector: str) -> None:
    given = scene(GRIDS[detector], canvas=(8, 8), objects=(((1.0, 1.0, 7.0, 7.0, 1),), ()))
    assert_finite(*step(loss, given, torch.float64))


@pytest.mark.parametrize("objects", HALVED)
@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("loss", "detector"), PAIRS)
def test_half_precision_is_what_full_precision_is_for_the_same_numbers(
    loss: str, detector: str, narrow: torch.dtype, objects: str
) -> None:
    """Maps in half precision as autocast and a cache give them, large ones too; learned parts run in it."""
    classes = 1 if objects == "one class" else CLASSES
    given = scene(GRIDS[detector], objects=HALVED[objects], classes=classes, dtype=torch.float32)
    halves = narrowed(given.inputs, narrow)
    torch.manual_seed(0)
    losses = dense_set(loss, given.maps, torch.float32)
    with torch.autocast("cpu", narrow):
        total = losses(halves).total
    total.backward()
    slopes = {tap: value.grad for tap, value in halves.student.items() if value.grad is not None}
    assert_finite(total.detach(), slopes)
    widened = halves._replace(
        student={tap: value.detach().float() for tap, value in halves.student.items()},
        teacher={tap: value.float() for tap, value in halves.teacher.items()},
    )
    widened.generator.manual_seed(0)
    wide = losses(widened).total.item()
    assert total.item() == pytest.approx(wide, rel=0.03, abs=1e-6)


def narrowed(inputs: StepInputs, narrow: torch.dtype) -> StepInputs:
    inputs.generator.manual_seed(0)
    return inputs._replace(
        student={tap: v.detach().to(narrow).requires_grad_() for tap, v in inputs.student.items()},
        teacher={tap: v.to(narrow) for tap, v in inputs.teacher.items()},
    )


@pytest.mark.parametrize(
    ("loss", "detector"), [pair for pair in PAIRS if pair[0] in ("bckd", "ld", "cwd", "gid")]
)
def test_certain_and_impossible_scores(loss: str, detector: str) -> None:
    """Logits of +-80, where a sigmoid is 0 or 1 in float32."""
    given = scene(GRIDS[detector], dtype=torch.float32)
    large = given.inputs._replace(
        student={tap: _large(tap, v).requires_grad_() for tap, v in given.inputs.student.items()},
        teacher={tap: -_large(tap, v) for tap, v in given.inputs.teacher.items()},
    )
    assert_finite(*step(loss, given._replace(inputs=large), torch.float32))


def _large(tap: str, value: Tensor) -> Tensor:
    return value.detach().clone() if tap.startswith(("box", "p")) else value.detach().sign() * 80


@pytest.mark.parametrize(("loss", "detector"), PAIRS)
def test_the_order_of_the_objects_changes_no_loss(loss: str, detector: str) -> None:
    """The assignment is the same: it is the task's own."""
    totals = []
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        given = scene(GRIDS[detector])
        moved = given.inputs._replace(truth=given.inputs.truth[:, list(order)])
        torch.manual_seed(0)
        totals.append(dense_set(loss, given.maps)(moved).total.item())
    assert totals == pytest.approx([totals[0]] * 3, rel=1e-6)
