"""One step is the same step however its batch is split: one process and one micro batch against every
accumulation and two ranks, on label maps of which nothing, a row or all is ignored."""

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_run import BARE, PlainStudent, Weights, sample_at
from rank_split import ACCUMULATED, RATES, ROWS, STEPS, Uneven, split_config, trained
from rank_steps import on_two_ranks
from torch.nn import functional

from kdcache.cache.spec import IGNORE
from kdcache.losses.contract import LossTerm
from kdcache.losses.supervised.segmentation import Supervised
from kdcache.trainer.steps.counts import draw_step
from kdcache.trainer.stream.batch import BatchLayout

WHOLE = {optimizer: split_config(optimizer, 1) for optimizer in RATES}


def assert_same(actual: Weights, expected: Weights) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(
            actual[name], value, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("optimizer", RATES)
@pytest.mark.parametrize("accumulate", ACCUMULATED[1:])
@pytest.mark.parametrize("loss", ["none", "at(taps=stage4,kd=0)"])
def test_accumulation_changes_nothing_but_rounding(
    optimizer: str, accumulate: int, loss: str, tmp_path: Path
) -> None:
    whole, losses = trained(tmp_path, WHOLE[optimizer], loss)
    split, split_losses = trained(tmp_path, split_config(optimizer, accumulate), loss)
    assert_same(split, whole)
    assert split_losses == pytest.approx(losses, rel=1e-5)


def test_the_first_step_is_the_mean_over_every_pixel_that_counts(tmp_path: Path) -> None:
    """By torch's own mean, which knows nothing of micro batches."""
    config = split_config("sgd", 4)
    _, (loss, *_) = trained(tmp_path, config)
    pixels, labels = [], []
    for position in range(BARE.batch_size):
        one = sample_at(position)
        label_HW = one.label_HW.clone()
        label_HW[ROWS[position] :] = IGNORE
        pixels.append(one.image_HWC)
        labels.append(label_HW.long())
    torch.manual_seed(config.seed)
    logits = PlainStudent()(torch.stack(pixels), ("logits",))["logits"]
    enlarged = functional.interpolate(logits, size=labels[0].shape, mode="bilinear", align_corners=True)
    assert loss == pytest.approx(
        functional.cross_entropy(enlarged, torch.stack(labels), ignore_index=IGNORE).item(), rel=1e-5
    )


def test_a_step_without_any_label_that_counts_moves_nothing(tmp_path: Path) -> None:
    _, losses = trained(tmp_path, split_config("sgd", 4))
    assert losses[STEPS - 1] == 0.0


@pytest.mark.slow  # one launch of two ranks, over 10 s
def test_two_ranks_change_nothing_but_rounding(tmp_path: Path) -> None:
    ranks: list[dict[str, Any]] = on_two_ranks("rank_split", tmp_path, str(tmp_path))
    for optimizer in RATES:
        whole, losses = trained(tmp_path, WHOLE[optimizer])
        for accumulate in ACCUMULATED:
            own = [rank["trained"][f"{optimizer}/{accumulate}"] for rank in ranks]
            for weights, _ in own:
                assert_same(weights, whole)
            mean = [sum(pair) / 2 for pair in zip(*(said for _, said in own), strict=True)]
            assert mean == pytest.approx(losses, rel=1e-5), (optimizer, accumulate)


class Counting:
    """An accelerator of one rank that counts its sums."""

    num_processes, device, sums = 1, torch.device("cpu"), 0

    def reduce(self, value: torch.Tensor, reduction: str) -> torch.Tensor:
        self.sums += 1
        assert reduction == "sum"
        return value


class Losses:
    counts_labels = True

    def count_labels(self, truth: torch.Tensor) -> torch.Tensor:
        return (truth != IGNORE).sum()


def test_a_step_looks_ahead_at_its_own_batches_and_adds_up_once() -> None:
    accelerator: Any = Counting()
    losses: Any = Losses()
    stream = Uneven(BatchLayout(seed=0, global_batch=8, accumulation=4))
    seen: list[int] = []

    def watched() -> Any:
        for batch in stream.run():
            seen.append(batch.micro_step)
            yield batch

    batches = watched()
    for step in range(2):
        drawn = list(draw_step(batches, losses, accelerator, accumulate=4))
        assert seen == list(range(4 * step + 4)) and accelerator.sums == step + 1
        assert [one.batch.micro_step for one in drawn] == seen[-4:]
        per_batch = [one.labels_per_batch for one in drawn]
        assert [float(one) for one in per_batch if one is not None] == [sum(ROWS) * 16 / 4] * 4


def test_a_run_whose_terms_count_no_labels_holds_no_batch_ahead() -> None:
    accelerator: Any = Counting()
    losses: Any = Losses()
    losses.counts_labels = False
    stream = Uneven(BatchLayout(seed=0, global_batch=8, accumulation=4))
    seen: list[int] = []

    def watched() -> Any:
        for batch in stream.run():
            seen.append(batch.micro_step)
            yield batch

    first = next(draw_step(watched(), losses, accelerator, accumulate=4))
    assert seen == [0] and first.labels_per_batch is None and accelerator.sums == 0


def test_only_a_term_that_says_so_is_asked_for_its_labels() -> None:
    assert Supervised.counts_labels and not LossTerm.counts_labels
