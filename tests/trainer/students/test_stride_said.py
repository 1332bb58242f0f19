"""What the table before step 0 says of a stride: the chosen one, or those of one's own network."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from kdcache.cache.networks.build import build_network
from kdcache.trainer.assemble import _stride_said
from kdcache.trainer.stream.run_source import RunSource

OWN = """
from torch import nn

def make(num_classes):
    body = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, num_classes, 2, 2))
    return body, {"stage1": "0", "logits": "1"}
"""


def source(task: str) -> RunSource:
    return cast(RunSource, SimpleNamespace(task=task, crop=(64, 96)))


def test_the_stride_of_a_factory_is_that_of_its_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stride_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    network = build_network("stride_own:make", task="segmentation", num_classes=3, role="student")
    sys.modules.pop("stride_own")
    assert network.output_stride == 8, "the task's default, which nothing follows here"
    assert _stride_said(network, source("segmentation")) == ", maps at stride 2, 4"


def test_the_stride_of_a_librarys_network_is_the_chosen_one() -> None:
    network = build_network("deeplabv3:test_resnet", task="segmentation", num_classes=3, output_stride=16)
    assert _stride_said(network, source("segmentation")) == ", stride 16"
    network = build_network("resnet8", task="classification", num_classes=3)
    assert _stride_said(network, source("classification")) == ""
