"""How far an export is from torch: the largest of all, and what is no number is never small."""

import pytest
import torch
from left_runs import Left, left_run
from torch import Tensor

from kdcache.trainer.export.compare import BOUND, Difference, compared


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Left:
    return left_run(tmp_path_factory.mktemp("home"), "classification")


def shown() -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=draw) for n in (2, 1)]


def test_the_largest_of_all_answers_counts(one: Left) -> None:
    images = shown()
    with torch.no_grad():
        said = [one.network(batch, ("logits",))["logits"] for batch in images]
    off = [said[0].clone(), said[1].clone()]
    off[0][1, 0] += 0.25
    off[1][0, 1] -= 0.125
    answers = iter(off)
    difference = compared(one.network, ("logits",), lambda _: {"logits": next(answers)}, images)
    assert difference.absolute == pytest.approx(0.25, abs=1e-5) and difference.num_images == 3
    assert difference.largest == pytest.approx(float(torch.cat(said).abs().max()))


def test_what_is_no_number_is_not_small(one: Left) -> None:
    nan = {"logits": torch.full((2, 2), float("nan"))}
    assert not compared(one.network, ("logits",), lambda _: nan, shown()[:1]).small
    assert Difference(BOUND * 2, 2.0, 1).small and not Difference(BOUND * 2.1, 2.0, 1).small
