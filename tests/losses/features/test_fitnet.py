"""FitNets: the four published regressors, the two stages, and maps that no regressor bridges."""

import pytest
import torch
from bare_inputs import specs, step_inputs
from term_inputs import build_set, classified, slope_holds, vectors
from torch import Tensor

from kdcache.cache.spec import BadOption, TensorSpec
from kdcache.losses.contract import Maps
from kdcache.losses.features.fitnet import FitNet, hint_cost, tempered_cross_entropy
from kdcache.losses.features.regressors import ORIGINAL_MAX_NORM, ValidRegressor
from kdcache.losses.plan.plan import parse_losses


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sides(student: tuple[int, ...], teacher: tuple[int, ...]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return {"stage2": drawn(*student).requires_grad_()}, {"stage2": drawn(*teacher, seed=1)}


def term_for(student: dict[str, Tensor], teacher: dict[str, Tensor], **options: object) -> FitNet:
    torch.manual_seed(0)
    maps = Maps(specs(student), specs(teacher))
    return FitNet(maps, taps="stage2", **options).double()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("form", "student", "teacher"),
    [
        ("cirkd", (2, 3, 4, 6), (2, 5, 4, 6)),
        ("repdistiller", (2, 3, 8, 4), (2, 5, 4, 2)),
        ("repdistiller", (2, 3, 2, 3), (2, 5, 4, 6)),
        ("repdistiller", (2, 3, 7, 6), (2, 5, 4, 5)),
        ("lenscloth", (3, 4), (3, 6)),
        ("original", (2, 3, 6, 5), (2, 4, 4, 4)),
        ("original", (2, 3, 4, 4), (2, 3, 4, 4)),
    ],
)
def test_the_gradient_is_the_slope_for_every_bridge(
    form: str, student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    maps, targets = sides(student, teacher)
    term = term_for(maps, targets, form=form)
    weights = [p for p in term.parameters() if p.requires_grad]

    def total(leaf: Tensor, *_: Tensor) -> Tensor:
        value: Tensor = term(step_inputs({"stage2": leaf}, targets))
        return value

    assert torch.autograd.gradcheck(total, (maps["stage2"], *weights), fast_mode=True, atol=1e-4)
    assert bool(weights) == (form != "lenscloth" and student[1:] != teacher[1:])


def test_lenscloths_random_weights_stay_as_they_are_and_are_saved() -> None:
    term = term_for(*sides((3, 4), (3, 6)), form="lenscloth")
    (weight,) = term.parameters()
    assert not weight.requires_grad and 0.004 < weight.abs().max() <= 0.005
    assert set(term.state_dict()) == {"regressors.0.weight"}


def test_the_original_cost_is_the_sum_over_rows_of_a_map_and_features_of_a_vector() -> None:
    student, teacher = drawn(2, 3, 4, 5), drawn(2, 3, 4, 5, seed=1)
    mean = (student - teacher).square().mean()
    torch.testing.assert_close(hint_cost(student, teacher), 4 / 2 * mean)
    flat = (student.flatten(1)[:, :7], teacher.flatten(1)[:, :7])
    torch.testing.assert_close(hint_cost(*flat), 7 / 2 * (flat[0] - flat[1]).square().mean())


def test_the_original_regressor_keeps_its_kernels_short() -> None:
    term = term_for(*sides((2, 3, 6, 5), (2, 4, 4, 4)), form="original")
    regressor = term.regressors[0]
    assert isinstance(regressor, ValidRegressor) and regressor.conv is not None
    assert regressor.conv.kernel_size == (3, 2) and regressor.conv.weight.abs().max() <= 0.05
    with torch.no_grad():
        regressor.conv.weight[0] = 1.0
    short = regressor.conv.weight[1].clone()
    regressor(drawn(2, 3, 6, 5))
    norms = regressor.conv.weight.flatten(1).norm(dim=1)
    assert norms[0].item() == pytest.approx(ORIGINAL_MAX_NORM, rel=1e-6)
    assert torch.equal(regressor.conv.weight[1], short)


def test_the_second_stage_is_a_cross_entropy_without_the_squared_temperature() -> None:
    student, teacher = drawn(3, 4).requires_grad_(), drawn(3, 4, seed=1)
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    torch.testing.assert_close(
        tempered_cross_entropy(student, teacher, temperature=3.0), -(p * q.log()).sum() / 3
    )
    inputs = classified(
        vectors({"logits": 4}, rows=3), vectors({"logits": 4}, rows=3, seed=1), labels=[0, 1, 2]
    )
    assert slope_holds(build_set("fitnet(form=original,stage=kd)", inputs), inputs)


def test_the_two_stages_have_their_published_weights() -> None:
    hint = parse_losses("fitnet(form=original)", preset=None, task="classification")
    assert [term.name for term in hint.terms] == ["fitnet"] and hint.student_taps == ("stage2",)
    text = "fitnet(form=original,stage=kd,decay=400,decay_to=0.25)"
    task, kd = parse_losses(text, preset=None, task="classification").terms
    assert task.weight == 1 and kd.reads.student_taps == ("logits",)
    assert [kd.weight * kd.schedule.factor(epoch) for epoch in (0, 200, 400, 500)] == [4.0, 2.5, 1.0, 1.0]


def test_each_task_has_its_published_form() -> None:
    segmentation = parse_losses("fitnet", preset=None, task="segmentation")
    assert [(t.name, t.weight) for t in segmentation.terms] == [("task", 1), ("fitnet", 10), ("kd", 1)]
    plan = parse_losses("fitnet", preset=None, task="classification")
    assert [(t.name, t.weight) for t in plan.terms] == [("task", 1), ("fitnet", 100)]
    assert plan.terms[1].options["form"] == "repdistiller"
    assert parse_losses(plan.written(), preset=None, task="classification").written() == plan.written()


def test_guided_map_and_hint_may_have_different_names() -> None:
    plan = parse_losses("fitnet(taps=stage1/stage2,hints=stage2/stage3)", preset=None, task="classification")
    assert plan.terms[1].reads.student_taps == ("stage1", "stage2")
    assert [need.tap for need in plan.terms[1].reads.needs] == ["stage2", "stage3"]


SMALL, LARGE = TensorSpec((4, 4, 3), 8), TensorSpec((7, 7, 3), 4)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"form": "repdistiller"}, "4x4.*7x7.*no published regressor.*\n.*'stage2'\n.*hints="),
        (
            {"form": "original"},
            "4x4.*7x7.*no published regressor.*\n.*'stage2'\n.*at least the teacher's size",
        ),
        ({"form": "cirkd"}, "'stage2' is 4x4.*teacher's is 7x7.*\n.*'fitnet'\n.*--output-stride 4"),
        ({"stage": "kd"}, "form=cirkd has one stage.*\n.*'fitnet'\n.*form=original,stage=kd"),
        (
            {"hints": "a/b"},
            "1 maps of the student and 2 of the teacher\n.*hints='a/b'\n.*one hint for every tap",
        ),
        ({"taps": ""}, "names no tap\n.*'fitnet'.*\n.*taps=stage1/stage2"),
    ],
)
def test_what_no_form_can_take_is_refused(options: dict[str, str], text: str) -> None:
    with pytest.raises(BadOption, match=text):
        FitNet(Maps({"stage2": SMALL}, {"stage2": LARGE}), **{"taps": "stage2", **options})  # type: ignore[arg-type]


def test_the_first_stage_refuses_company_that_trains_what_it_leaves_alone() -> None:
    student = {"stage2": SMALL, "logits": TensorSpec((5,), 0)}
    with pytest.raises(BadOption, match="up to the guided map.*\n.*stage=hint\n.*form=original,kd=0"):
        FitNet(Maps(student, student), taps="stage2", form="original")


def test_one_image_has_no_batch_statistics_of_one_cell() -> None:
    student, teacher = sides((1, 3, 2, 2), (1, 5, 1, 1))
    term = term_for(student, teacher, form="repdistiller")
    with pytest.raises(BadOption, match="1 image with a map of 1x1 cells\n.*'stage2'\n.*--batch-size"):
        term(step_inputs(student, teacher))
