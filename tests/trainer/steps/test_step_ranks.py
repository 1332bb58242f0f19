"""One step of two ranks, accumulated twice, against the same step worked out by hand in this process."""

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_run import BARE, RIVAL_LR, assert_close, copy_of, gradient_by_hand, loss_by_hand, sample_at, taken
from rank_arithmetic import CONFIG, LOSS, plain_parts
from rank_steps import on_two_ranks

from kdcache.trainer.folder.metrics_log import read_metrics
from kdcache.trainer.ranks import start_accelerator

BATCH = range(BARE.batch_size)
pytestmark = pytest.mark.slow  # one launch of two ranks for all of them: over 10 s


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("ranks")
    return folder


@pytest.fixture(scope="module")
def ranks(out: Path) -> list[dict[str, Any]]:
    return on_two_ranks("rank_arithmetic", out, str(out))


def test_two_ranks_take_the_gradient_of_the_whole_batch(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert_close(taken(rank["before"], rank["after"]), gradient_by_hand(rank["before"], BATCH))
    for name, value in ranks[0]["after"].items():
        assert torch.equal(value, ranks[1]["after"][name]), name


def test_the_metrics_of_two_ranks_hold_the_mean_over_the_whole_batch(
    out: Path, ranks: list[dict[str, Any]]
) -> None:
    loss = float(loss_by_hand(ranks[0]["before"], BATCH))
    line = read_metrics(out / "r")[0]
    assert line["loss"]["task"] == line["unweighted"]["task"] == pytest.approx(loss, rel=1e-5)


def test_no_two_ranks_and_micro_steps_share_a_mask_or_a_dropout(ranks: list[dict[str, Any]]) -> None:
    for kind in ("masks", "dropped"):
        drawn = [tuple(draw) for rank in ranks for draw in rank[kind]]
        assert len(drawn) == 4 and len(set(drawn)) == 4, kind


def test_a_rival_moves_by_the_mean_over_ranks_and_micro_batches(
    tmp_path: Path, ranks: list[dict[str, Any]]
) -> None:
    made = plain_parts(CONFIG, LOSS)(start_accelerator(CONFIG, tmp_path, start=0))
    begun = float(copy_of(made.losses.terms["Duel"])["critic.weight"])
    mean = float(torch.stack([sample_at(p).target_CHW for p in BATCH]).mean())
    for rank in ranks:
        assert begun - float(rank["critic"]) == pytest.approx(RIVAL_LR * mean, rel=1e-4)
