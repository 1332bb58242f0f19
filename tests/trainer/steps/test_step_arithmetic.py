"""What one step does to the weights, against the same step worked out by hand with torch alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from plain_run import (
    BARE,
    GAIN_CLIP,
    GAIN_GRADIENT,
    RIVAL_LR,
    RIVAL_POWER,
    Bench,
    assert_close,
    gradient_by_hand,
    loss_by_hand,
    sample_at,
    taken,
)

from kdcache.trainer.steps.step import StepResult

BATCH = range(BARE.batch_size)  # positions of step 0


def reported(result: StepResult) -> dict[str, float]:
    return dict(zip(result.names, result.terms.tolist(), strict=True))


def norm_of(values: dict[str, torch.Tensor]) -> float:
    return float(torch.cat([value.flatten() for value in values.values()]).norm())


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_a_step_takes_the_gradient_of_the_whole_batch_however_often_it_accumulates(
    tmp_path: Path, accumulate: int
) -> None:
    bench = Bench(tmp_path, replace(BARE, accumulate=accumulate))
    before = bench.weights()
    bench.step()
    assert_close(taken(before, bench.weights()), gradient_by_hand(before, BATCH))


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_reported_losses_are_means_over_the_whole_batch(tmp_path: Path, accumulate: int) -> None:
    bench = Bench(tmp_path, replace(BARE, accumulate=accumulate), "task(weight=2)")
    loss = float(loss_by_hand(bench.weights(), BATCH))
    expected = {"total": 2 * loss, "task": 2 * loss, "unweighted/task": loss}
    assert reported(bench.step()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_several_steps_follow_torchs_own_optimizer_at_the_rate_of_each_step(
    tmp_path: Path, optimizer: str
) -> None:
    rate = {"sgd": 0.5, "adamw": 0.01}[optimizer]
    config = replace(BARE, optimizer=optimizer, lr=rate, momentum=0.9, weight_decay=0.05, accumulate=2)
    bench = Bench(tmp_path, config)
    leaves = {name: value.requires_grad_() for name, value in bench.weights().items()}
    by_hand: torch.optim.Optimizer
    if optimizer == "sgd":
        by_hand = torch.optim.SGD(leaves.values(), momentum=0.9, weight_decay=0.05)
    else:
        by_hand = torch.optim.AdamW(leaves.values(), weight_decay=0.05)
    for number in range(4):
        bench.step(number)
        gradients = gradient_by_hand(leaves, range(8 * number, 8 * number + 8))
        for name, leaf in leaves.items():
            leaf.grad = gradients[name]
        by_hand.param_groups[0]["lr"] = rate * (1 - number / 5) ** 0.9
        by_hand.step()
    assert_close(bench.weights(), {name: leaf.detach() for name, leaf in leaves.items()})


def test_a_late_step_has_the_rate_of_its_number_from_the_first_time_on(tmp_path: Path) -> None:
    """As after a resume: the rate depends on the step and not on how many steps this process made."""
    bench = Bench(tmp_path)
    before = bench.weights()
    bench.step(4)
    gradient = gradient_by_hand(before, BATCH)
    assert_close(taken(before, bench.weights()), {n: g * (1 - 4 / 5) ** 0.9 for n, g in gradient.items()})


@pytest.mark.parametrize("accumulate", [1, 4])
def test_clip_shortens_the_students_whole_gradient_and_keeps_its_direction(
    tmp_path: Path, accumulate: int
) -> None:
    bench = Bench(tmp_path, replace(BARE, accumulate=accumulate, clip=0.01))
    before = bench.weights()
    gradient = gradient_by_hand(before, BATCH)
    norm = norm_of(gradient)
    assert norm > 0.02
    bench.step()
    assert_close(
        taken(before, bench.weights()), {name: value * 0.01 / norm for name, value in gradient.items()}
    )


def test_clip_leaves_a_shorter_gradient_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, replace(BARE, clip=100.0))
    before = bench.weights()
    bench.step()
    assert_close(taken(before, bench.weights()), gradient_by_hand(before, BATCH))


@pytest.mark.parametrize("clip", [None, 0.001])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_learned_parts_of_a_loss_are_clipped_to_its_own_bound_whatever_clip_says(
    tmp_path: Path, clip: float | None, accumulate: int
) -> None:
    bench = Bench(tmp_path, replace(BARE, clip=clip, accumulate=accumulate), "plain_run:Gain")
    before = bench.weights()
    bench.step()
    clipped = torch.tensor(GAIN_GRADIENT) * GAIN_CLIP / 13
    assert_close({"gain": bench.term("Gain").gain.detach()}, {"gain": -clipped})
    if clip is None:  # the loss's bound is not the student's
        assert_close(taken(before, bench.weights()), gradient_by_hand(before, BATCH))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_rival_moves_by_the_mean_over_its_micro_batches_at_its_own_falling_rate(
    tmp_path: Path, accumulate: int
) -> None:
    bench = Bench(tmp_path, replace(BARE, accumulate=accumulate), "plain_run:Duel")
    weight = bench.term("Duel").critic.weight
    before = float(weight)
    bench.step(2)
    mean = float(torch.stack([sample_at(p).target_CHW for p in BATCH]).mean())
    rate = RIVAL_LR * (1 - 2 / 5) ** RIVAL_POWER
    assert before - float(weight) == pytest.approx(rate * mean, rel=1e-4)


def test_masks_and_dropout_differ_in_every_micro_step_and_under_another_seed(tmp_path: Path) -> None:
    drawn = []
    for seed in (0, 1):
        bench = Bench(tmp_path, replace(BARE, accumulate=2, seed=seed), "plain_run:Draws")
        bench.step(0)
        bench.step(1)
        term = bench.term("Draws")
        drawn += [tuple(draw) for draw in term.masks]
        drawn += [tuple(share / 2 for share in draw) for draw in term.dropped]
    assert len(drawn) == 16 and len(set(drawn)) == 16
    assert all(set(draw) == {0.0, 1.0} and 16 < sum(draw) < 48 for draw in drawn)


def test_masks_and_dropout_differ_on_every_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same micro step as two ranks make it, here one after the other."""
    bench = Bench(tmp_path, loss="plain_run:Draws")
    for rank in range(2):
        bench.batches = bench.parts.stream.run(0)
        with monkeypatch.context() as patch:
            patch.setattr(Accelerator, "process_index", rank)
            bench.step(0)
    for kind in ("masks", "dropped"):
        first, second = getattr(bench.term("Draws"), kind)
        assert first != second, kind


def test_a_draw_depends_on_the_micro_step_and_not_on_what_was_drawn_before(tmp_path: Path) -> None:
    """What makes a resumed run exact: step 1 alone draws what it draws after step 0."""
    whole, resumed = (Bench(tmp_path / name, loss="plain_run:Draws") for name in ("whole", "resumed"))
    whole.step(0)
    whole.step(1)
    resumed.batches = resumed.parts.stream.run(1)
    resumed.step(1)
    for kind in ("masks", "dropped"):
        assert getattr(whole.term("Draws"), kind)[1:] == getattr(resumed.term("Draws"), kind)


def test_bf16_runs_the_student_in_bf16_and_hands_float32_to_the_losses(tmp_path: Path) -> None:
    bench = Bench(tmp_path, replace(BARE, amp="bf16"), "plain_run:Draws")
    said: list[torch.dtype] = []
    bench.stepper.module.student.head.register_forward_hook(
        lambda module, inputs, logits: said.append(logits.dtype)
    )
    bench.step()
    assert said == [torch.bfloat16]
    assert bench.term("Draws").float_types == [torch.float32]
    assert all(value.dtype == torch.float32 for value in bench.weights().values())
