"""What can be said of a loss and a teacher without a student: who refuses each, and what one must have."""

import pytest
from dense_inputs import CANVAS, GRIDS, specs_of

from kdcache.cache.grid import DenseGrid
from kdcache.cache.spec import TensorSpec
from kdcache.losses.contract import Facts
from kdcache.losses.plan.fit import Fit, fit_of
from kdcache.losses.plan.plan import parse_losses

DENSE = {
    "stage4": TensorSpec((8, 8, 12), 8),
    "neck": TensorSpec((8, 8, 10), 8),
    "logits": TensorSpec((8, 8, 5), 8),
}
FACTS = Facts(task="segmentation", num_classes=5, num_samples=9, input_size=(64, 64))


def fit(expression: str, **changed: TensorSpec) -> Fit:
    plan = parse_losses(expression, preset=None, task="segmentation")
    return fit_of(plan, {**DENSE, **changed}, facts=FACTS)


def test_a_loss_of_scores_asks_nothing_of_a_student() -> None:
    assert fit("kd") == fit("cwd") == fit("none") == Fit()


def test_what_a_student_must_have_is_said() -> None:
    assert fit("pkd") == Fit(None, ("as many channels",))
    assert fit("mgd") == fit("at") == Fit(None, ("maps of the same size",))
    assert fit("pkd+at") == Fit(None, ("as many channels", "maps of the same size"))


def test_channel_groups_that_do_not_divide_refuse_every_student() -> None:
    refusal = fit("afdcd").refusal
    assert refusal is not None and refusal.what == "12 teacher channels do not split into 16 equal groups"
    assert fit("afdcd", stage4=TensorSpec((8, 8, 32), 8)).refusal is None


def test_maps_too_small_for_a_critic_refuse_every_student() -> None:
    refusal = fit("skds-holistic").refusal
    assert refusal is not None and "needs sides of 64 cells and the logits are 8x8" in refusal.what
    assert fit("skds-holistic", logits=TensorSpec((64, 64, 5), 8)).refusal is None


def test_nothing_is_said_of_what_a_teacher_does_not_tell() -> None:
    plan = parse_losses("at", preset=None, task="segmentation")
    assert fit_of(plan, {"logits": DENSE["logits"]}, facts=FACTS) == Fit()
    assert fit_of(parse_losses("dml", preset=None, task="classification"), {}) == Fit()


@pytest.mark.parametrize(
    ("loss", "needs"),
    [
        ("bckd", ("as many anchors per cell and the same classes",)),
        ("pkd", ("as many channels",)),
        ("fgd", ()),
        ("mgd", ()),
    ],
)
def test_what_a_detector_must_share_with_its_teacher_is_said(loss: str, needs: tuple[str, ...]) -> None:
    """Of what the loss reads alone: that a cache keeps no more is no reason to say nothing."""
    grid = GRIDS["retinanet"]
    plan = parse_losses(loss, preset=None, task="detection").with_levels(grid.groups, grid.groups)
    every = specs_of(grid)
    kept = {need.name: every[need.name] for need in plan.needs}
    facts = Facts(task="detection", num_classes=5, input_size=CANVAS)
    assert fit_of(plan, kept, facts=facts, grid=grid) == Fit(None, needs)


def test_levels_of_a_detector_are_compared_with_its_own_grid() -> None:
    grid = DenseGrid(levels=(3, 4), strides=(8, 16))
    plan = parse_losses("pkd", preset=None, task="detection").with_levels(grid.groups, grid.groups)
    specs = {tap: TensorSpec((64 // s, 64 // s, 6), s) for tap, s in (("p3", 8), ("p4", 16))}
    specs |= {f"{kind}{n}": TensorSpec((64 // s, 64 // s, 4), s) for kind in ("cls", "box")
              for n, s in ((3, 8), (4, 16))}  # fmt: skip
    assert fit_of(plan, specs, facts=Facts(task="detection", num_classes=4), grid=grid).refusal is None
