"""What is exported of a run: its network, and a card that says on which data and at which size it learned."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run import load_run_network
from kdcache.cache.networks.run_card import read_run_card
from kdcache.cache.networks.weights import weights_digest
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.trainer.steps.contract import Export
from kdcache.trainer.stream.run_source import RunSource
from kdcache.trainer.students.export import exporter

SOURCE: Any = SimpleNamespace(spec="npz:/data/small.npz", class_names=("a", "b", "c"), crop=(24, 32))


@pytest.fixture
def export() -> Export:
    return exporter(cast(RunSource, SOURCE))


def network(seed: int) -> Network:
    torch.manual_seed(seed)
    return build_network("resnet8x4", task=CLASSIFICATION, num_classes=3, role="student")


def test_the_card_says_what_the_run_knew(export: Export, tmp_path: Path) -> None:
    export(tmp_path / "r", network(0), {"best/top1": 0.5})
    card = read_run_card(tmp_path / "r")
    assert (card.data, card.class_names, card.crop) == (SOURCE.spec, SOURCE.class_names, (24, 32))
    assert card.metrics == {"best/top1": 0.5} and card.output_stride == network(0).output_stride


def test_without_a_network_the_weights_stay_and_the_figures_change(export: Export, tmp_path: Path) -> None:
    export(tmp_path / "r", network(0), {"best/top1": 0.5})
    export(tmp_path / "r", None, {"best/top1": 0.5, "final/top1": 0.4})
    assert weights_digest(load_run_network(tmp_path / "r")) == weights_digest(network(0))
    assert read_run_card(tmp_path / "r").metrics == {"best/top1": 0.5, "final/top1": 0.4}


def test_a_better_student_takes_the_place_of_the_one_before(export: Export, tmp_path: Path) -> None:
    export(tmp_path / "r", network(0), {})
    export(tmp_path / "r", network(1), {})
    assert weights_digest(load_run_network(tmp_path / "r")) == weights_digest(network(1))
