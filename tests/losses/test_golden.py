"""Every loss against the values and gradients of the published codes (tests/golden, or `--golden DIR`).

A file holds cases `c<number>.<key>`; the array `cases` lists the numbers. Losses, terms and gradients must
all be reproduced, in both precisions. What the keys mean to our classes is in tests/losses/golden.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_case import TOLERANCE, Case, ClassificationCase
from golden_check import check_case
from golden_files import ADAPTERS, NOT_STORED, WEIGHTS, GoldenFile, files_of

HERE = Path(__file__).parents[1] / "golden"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "number" in metafunc.fixturenames:
        root = metafunc.config.getoption("--golden") or HERE
        files = list(files_of(root))
        if not files:
            raise pytest.UsageError(f"there is no npz file with cases in {root}")
        metafunc.parametrize(("file", "number", "dtype"), [case for file in files for case in _cases(file)])


def test_values_and_gradients_are_those_of_the_published_code(
    file: GoldenFile, number: int | None, dtype: torch.dtype
) -> None:
    assert file.method in ADAPTERS, f"{file.path} has no adapter: write one in tests/losses/golden"
    assert number is not None, f"{file.path} lists no case"
    kind = Case if file.method.startswith("segmentation/") else ClassificationCase
    with np.load(file.path, allow_pickle=False) as archive:
        case = kind(archive, number, dtype, folder=file.path.parent)
    check_case(file.method, case)


def test_every_adapter_has_its_file_of_golden_vectors_and_every_file_its_adapter() -> None:
    stored = {f"{path.parent.name}/{path.stem}" for path in HERE.rglob("*.npz")}
    assert stored - set(WEIGHTS) == set(ADAPTERS) - set(NOT_STORED)


def _cases(file: GoldenFile) -> Iterator[Any]:
    """One item per case and precision; one that fails for a file that nothing can be compared with."""
    numbers: list[int] = []
    if file.method in ADAPTERS:
        with np.load(file.path, allow_pickle=False) as archive:
            numbers = [int(number) for number in archive["cases"]]
    if not numbers:
        yield pytest.param(file, None, torch.float64, id=f"golden-{file.method}")
    for number in numbers:
        for dtype in TOLERANCE:
            name = f"golden-{file.method}-c{number}-{str(dtype).removeprefix('torch.')}"
            yield pytest.param(file, number, dtype, id=name)
