"""A tiny network of the user's own, importable by name, and images for it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

TINY = '''
from torch import nn


class Tiny(nn.Module):
    """Strides 2 and 4, two classes more than nothing, an activation in place, a pooled vector."""

    pad_multiple = 4

    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.body = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Conv2d(6, num_classes, 1)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.square = nn.AdaptiveAvgPool2d(2)
        self.pair = Pair()
        self.idle = nn.Identity()

    def forward(self, x):
        early = self.stem(x)
        deep = self.body(early)
        self.pool(deep), self.square(deep), self.pair(early, deep)
        return {"out": self.head(deep)}


class Pair(nn.Module):
    def forward(self, early, deep):
        return [early, deep]


def build(num_classes):
    return Tiny(num_classes), {"stage1": "stem", "stage2": "body", "logits": "head"}


def half_done(num_classes):
    return Tiny(num_classes)
'''


@pytest.fixture
def tiny_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of an importable module with the factory 'build'."""
    folder = tmp_path / "importable"
    folder.mkdir()
    (folder / "tiny_networks.py").write_text(TINY)
    monkeypatch.syspath_prepend(folder)
    yield "tiny_networks"
    sys.modules.pop("tiny_networks", None)


@pytest.fixture
def tiny_name(tiny_module: str) -> str:
    torch.manual_seed(0)
    return f"{tiny_module}:build"


CLASSES = """
from torch import nn


class Fixed(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 10, num_classes))

    def forward(self, x):
        return self.body(x)


def silent(num_classes):
    return Fixed(num_classes), {"logits": "body.1"}


def fixed(num_classes):
    module, taps = silent(num_classes)
    module.input_size = (8, 10)
    return module, taps
"""


@pytest.fixture
def tiny_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of an importable module with classifiers for images of 8 x 10 pixels."""
    folder = tmp_path / "classifiers"
    folder.mkdir()
    (folder / "tiny_classes.py").write_text(CLASSES)
    monkeypatch.syspath_prepend(folder)
    yield "tiny_classes"
    sys.modules.pop("tiny_classes", None)


@pytest.fixture
def images_BHWC() -> Tensor:
    """Two noise images of 9 x 14 pixels: neither side is a multiple of the tiny network's stride 4."""
    return torch.randint(0, 256, (2, 9, 14, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
