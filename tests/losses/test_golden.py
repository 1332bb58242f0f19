"""Every loss against the values and gradients of the published codes (tests/golden, or `--golden DIR`).

A file holds cases `c<number>.<key>`; the array `cases` lists the numbers. Losses, terms and gradients must
all be reproduced, in both precisions. What the keys mean to our classes is in tests/support/golden_*.py.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import golden_dense
import golden_features
import golden_logits
import golden_peers
import numpy as np
import pytest
import torch
from golden_case import TOLERANCE, Case, ClassificationCase, relative_error

HERE = Path(__file__).parents[1] / "golden"
ADAPTERS = {
    **golden_dense.ADAPTERS,
    **golden_logits.ADAPTERS,
    **golden_features.ADAPTERS,
    **golden_peers.ADAPTERS,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "number" in metafunc.fixturenames:
        root = metafunc.config.getoption("--golden") or HERE
        metafunc.parametrize(("path", "method", "number", "dtype"), list(_cases(root)))


def test_values_and_gradients_are_those_of_the_published_code(
    path: Path, method: str, number: int, dtype: torch.dtype
) -> None:
    kind = Case if method.startswith("segmentation/") else ClassificationCase
    with np.load(path, allow_pickle=False) as archive:
        case = kind(archive, number, dtype, folder=path.parent)
    found, expected = ADAPTERS[method](case), case.expected()
    assert expected and not set(expected) - set(found), (
        "the file has values that the adapter does not compute"
    )
    for key, wanted in expected.items():
        value = found[key].detach().numpy()
        assert value.shape == wanted.shape or value.size == wanted.size == 1, key
        if wanted.size and np.isnan(wanted).all():
            assert np.isnan(value).all(), f"{key} is a number where the published code gives none"
            continue
        error = relative_error(value, wanted)
        assert error <= case.tolerance(key), f"{key} is off by {error:.1e} of its largest value"


def test_every_file_of_the_project_has_an_adapter() -> None:
    stored = {f"{p.parent.name}/{p.stem}" for p in HERE.glob("*/*.npz") if "weights" not in p.stem}
    assert stored <= set(ADAPTERS)


def _cases(root: Path) -> Iterator[Any]:
    found = {method: path for method in ADAPTERS if (path := _file(root, method)) is not None}
    if not found:
        raise pytest.UsageError(f"{root} holds none of {', '.join(f'{m}.npz' for m in sorted(ADAPTERS))}")
    for method in ADAPTERS:
        if method not in found:
            reason = pytest.mark.skip(reason=f"{root} has no {method}.npz")
            yield pytest.param(root, method, 0, torch.float64, id=f"golden-{method}", marks=reason)
            continue
        with np.load(found[method], allow_pickle=False) as archive:
            numbers = [int(number) for number in archive["cases"]]
        for number in numbers:
            for dtype in TOLERANCE:
                name = f"golden-{method}-c{number}-{str(dtype).removeprefix('torch.')}"
                yield pytest.param(found[method], method, number, dtype, id=name)


def _file(root: Path, method: str) -> Path | None:
    """DIR/<task>/NAME.npz, or DIR/NAME.npz where the file's own keys say that it is of this task."""
    nested = root / f"{method}.npz"
    if nested.is_file():
        return nested
    flat = root / f"{method.partition('/')[2]}.npz"
    if not flat.is_file():
        return None
    with np.load(flat, allow_pickle=False) as archive:
        classification = any(".in." in key for key in archive)
    return flat if classification == method.startswith("classification/") else None
