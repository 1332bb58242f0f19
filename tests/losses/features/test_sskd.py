"""SSKD: its rows, its two stages, and what they refuse."""

import pytest
import torch
from bare_inputs import specs
from term_inputs import build_set, classified, slope_holds, vectors
from torch import Tensor
from torch.nn import functional

from kdcache.cache.spec import BadOption
from kdcache.losses.contract import Maps
from kdcache.losses.features.rotations import kept_kl, kept_rows, similarity, true_rank
from kdcache.losses.features.sskd import SelfSupervision
from kdcache.losses.loss_set import LossSet
from kdcache.losses.step_inputs import StepInputs

STAGES = ["student", "head"]


def inputs_for(samples: int = 3) -> StepInputs:
    taps = {"embedding": 6, "logits": 4}
    rows = 4 * samples
    labels = torch.arange(samples).remainder(4).repeat_interleave(4).tolist()
    return classified(
        vectors(taps, rows=rows),
        vectors({**taps, "embedding": 5}, rows=rows, seed=1),
        labels=labels,
        rows_per_sample=4,
    )


def set_for(inputs: StepInputs, stage: str = "student") -> LossSet:
    taps = {} if stage == "head" else inputs.student
    losses = build_set(f"sskd(stage={stage})", inputs._replace(student=taps))
    losses.terms["sskd"].get_buffer("head_steps").add_(stage == "student")
    return losses


def test_similarity_is_the_cosine_of_each_turned_view_with_each_plain_one() -> None:
    values = vectors({"embedding": 5}, rows=8)["embedding"]
    cosines = similarity(values)
    turned = [row for row in range(8) if row % 4]
    for r, row in enumerate(turned):
        for j in range(2):
            wanted = functional.cosine_similarity(values[row], values[4 * j], dim=0)
            torch.testing.assert_close(cosines[r, j], wanted)


def test_equal_scores_stand_in_the_order_of_columns() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.0, 5.0, 5.0]])
    assert true_rank(scores, torch.tensor([1, 0, 2, 2])).tolist() == [2, 0, 2, 1]


@pytest.mark.parametrize(
    ("ratio", "kept"),
    [(0.0, [0, 4]), (0.5, [0, 2, 4]), (0.67, [0, 1, 2, 4]), (0.99, [0, 1, 2, 4]), (1.0, [0, 1, 2, 3, 4])],
)
def test_all_right_rows_and_the_best_of_the_wrong_are_kept(ratio: float, kept: list[int]) -> None:
    ranks = torch.tensor([0, 2, 1, 2, 0])  # three wrong; rows 1 and 3 are equal
    assert kept_rows(ranks, ratio).nonzero().flatten().tolist() == kept


def test_the_loss_is_a_mean_over_the_kept_rows_and_zero_without_any() -> None:
    student, teacher = vectors({"a": 3}, rows=4)["a"], vectors({"a": 3}, rows=4, seed=1)["a"].detach()
    kept = torch.tensor([True, False, True, False])
    alone = kept_kl(student[[0, 2]], teacher[[0, 2]], kept[[0, 2]], temperature=2.0)
    torch.testing.assert_close(kept_kl(student, teacher, kept, temperature=2.0), alone)
    none = kept_kl(student, teacher, torch.zeros(4, dtype=torch.bool), temperature=2.0)
    assert none.item() == 0 and not torch.autograd.grad(none, student)[0].any()


@pytest.mark.parametrize("stage", STAGES)
def test_the_gradient_is_the_slope(stage: str) -> None:
    inputs = inputs_for()
    losses = set_for(inputs, stage)
    taps = {} if stage == "head" else inputs.student
    assert slope_holds(losses, inputs._replace(student=taps))


def test_the_first_stage_trains_the_teachers_head_alone_and_the_second_takes_it_frozen() -> None:
    inputs = inputs_for()
    head = set_for(inputs, "head")
    head(inputs).total.backward()
    learned = {name for name, p in head.named_parameters() if p.grad is not None}
    assert learned and all(name.startswith("terms.sskd.teacher_head.") for name in learned)
    student = set_for(inputs)
    taken = {name: v for name, v in head.state_dict().items() if name in student.state_dict()}
    assert set(taken) >= learned | {"terms.sskd.head_steps"}
    student.load_state_dict(taken, strict=False)
    student(inputs).total.backward()
    trained = {name for name, p in student.named_parameters() if p.grad is not None}
    assert trained and all(name.startswith("terms.sskd.student_head.") for name in trained)


def test_the_first_stage_lowers_its_loss() -> None:
    inputs = inputs_for(6)
    losses = set_for(inputs, "head")
    before = losses(inputs).total
    before.backward()
    with torch.no_grad():
        for weight in losses.parameters():
            if weight.grad is not None:
                weight -= 0.1 * weight.grad
    assert losses(inputs).total < before


def test_a_single_sample_has_nothing_to_compare_and_no_gradient_from_it() -> None:
    inputs = inputs_for(1)
    values = set_for(inputs)(inputs)
    assert values.terms["sskd.ss"].item() == 0 and torch.isfinite(values.total)


def test_a_head_that_was_never_trained_is_refused() -> None:
    inputs = inputs_for()
    losses = build_set("sskd", inputs)
    with pytest.raises(BadOption, match="never trained\n.*stage=student\n.*stage=head.*--init RUN"):
        losses(inputs)


@pytest.mark.parametrize("stage", STAGES)
def test_plain_views_are_refused(stage: str) -> None:
    inputs = inputs_for()
    losses = set_for(inputs, stage)
    with pytest.raises(BadOption, match="1 view per sample.*4 quarter turns\n.*'sskd'\n.*--views turns:K"):
        losses(inputs._replace(rows_per_sample=1))


def test_another_number_of_classes_is_refused() -> None:
    student, teacher = ({"embedding": 4, "logits": k} for k in (3, 5))
    sides = (specs(vectors(taps, rows=4)) for taps in (student, teacher))
    with pytest.raises(BadOption, match="3 channels but the teacher's has 5\n.*'sskd'"):
        SelfSupervision(Maps(*sides))


def test_the_published_weights_hold() -> None:
    inputs = inputs_for()
    values = set_for(inputs)(inputs)
    factors = {"task": 0.1, "sskd.kd": 0.9, "sskd.tf": 2.7, "sskd.ss": 10.0}
    for name, factor in factors.items():
        torch.testing.assert_close(values.terms[name], factor * values.unweighted[name])
    assert isinstance(values.total, Tensor) and set(values.terms) == set(factors)
