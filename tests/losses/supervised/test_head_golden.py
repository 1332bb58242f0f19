"""The task's terms of a gfl head with the values of the published code, under the stored assignment.

The files hold whole heads, their totals and gradients with the distillation in it: those are compared where
the losses are (tests/losses/test_golden.py).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_case import TOLERANCE, ClassificationCase, relative_error
from golden_heads import task_terms, undivided, weight_sum

HEADS = Path(__file__).parents[2] / "golden" / "detection"
# File -> the form of the positives' weights.
FORMS = {"bckd_head_gfl": "bckd", "ld_head_gfl": "own"}


def cases() -> Iterator[Any]:
    for name in FORMS:
        with np.load(HEADS / f"{name}.npz", allow_pickle=False) as archive:
            numbers = [int(number) for number in archive["cases"]]
        for number in numbers:
            for dtype in TOLERANCE:
                yield pytest.param(name, number, dtype, id=f"{name}-c{number}-{str(dtype)[6:]}")


@pytest.mark.parametrize(("name", "number", "dtype"), list(cases()))
def test_the_terms_of_a_head_are_those_of_the_published_code(
    name: str, number: int, dtype: torch.dtype
) -> None:
    with np.load(HEADS / f"{name}.npz", allow_pickle=False) as archive:
        case = ClassificationCase(archive, number, dtype)
    form = FORMS[name]
    scores = weight_sum(case, 1e-4 if form == "bckd" else 0.0)
    divisor = scores + 1e-6 if form == "bckd" else scores.clamp(min=1)
    terms = undivided(case, task_terms(case, score=form), divisor)
    assert set(terms) == {"loss_cls", "loss_bbox", "loss_dfl"}
    for key, value in [*terms.items(), ("weight_targets_sum", scores)]:
        wanted = case.arrays[f"out64.{key}"]
        assert relative_error(value.detach().numpy(), wanted) <= TOLERANCE[dtype], key
