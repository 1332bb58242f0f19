"""Two ranks give the gradient of one: what the loss of dense heads is divided by spans both."""

from pathlib import Path

import pytest
import torch
from dense_heads import GRIDS
from rank_heads import slopes_of
from rank_steps import on_two_ranks


@pytest.mark.slow
def test_two_ranks_have_the_gradient_of_one_on_the_whole_batch(tmp_path: Path) -> None:
    """Their images hold different numbers of objects; N is the mean of both ranks' own."""
    ranks = on_two_ranks("rank_heads", tmp_path, str(tmp_path))
    for name in GRIDS:
        number, slopes = slopes_of(name, slice(0, 2))
        alone = [float(slopes_of(name, slice(rank, rank + 1))[0]) for rank in (0, 1)]
        assert alone[0] != alone[1] and float(number) == sum(alone)
        for rank, left in enumerate(ranks):
            assert float(left[name]["number"]) == sum(alone) / 2
            for tap, whole in slopes.items():
                torch.testing.assert_close(
                    left[name]["slopes"][tap], whole[rank : rank + 1], msg=f"{name} {tap}"
                )
