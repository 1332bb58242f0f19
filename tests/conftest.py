"""What every test shares: `--golden DIR`, one thread, the `gpu` marker, a kind word on a bare checkout."""

import importlib.util
import os
from pathlib import Path

import pytest

# What runs and caches of the tests may name in their files; tests of consent have modules of their own.
TRUSTED = (
    "tiny_teacher", "tiny_detector", "tiny_classifier", "tiny_networks", "exact_teachers", "fake_methods",
    "plain_run",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        metavar="DIR",
        type=Path,
        default=None,
        help="run the golden tests over every npz file below DIR, not tests/golden; an unknown one fails",
    )


def pytest_configure(config: pytest.Config) -> None:
    if not _installed():
        pytest.exit(
            "kdcache is not installed here: pip install -e . first", returncode=pytest.ExitCode.USAGE_ERROR
        )
    folder = config.getoption("--golden")
    if folder is not None and not folder.is_dir():
        raise pytest.UsageError(f"--golden {folder}: there is no such folder")


def pytest_sessionstart(session: pytest.Session) -> None:
    import torch

    from kdcache.cache.trust import trust

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)  # one and two threads give different bits
    for module in TRUSTED:
        trust(module)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, there is none here"))


def _installed() -> bool:
    try:
        return importlib.util.find_spec("kdcache.cache.errors") is not None
    except ModuleNotFoundError:
        return False
