"""Networks of the user's own: what a factory must return."""

import pytest

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.build import build_network


def test_a_factory_names_its_taps_and_its_padding(tiny_name: str) -> None:
    network = build_network(tiny_name, task="segmentation", num_classes=5)
    assert network.name == tiny_name and network.pad_multiple == 4
    assert network.taps == {"stage1": "stem", "stage2": "body", "logits": "head"}
    assert network.trained_head  # its owner's business


def test_an_unknown_factory_names_the_nearest(tiny_module: str) -> None:
    with pytest.raises(BadOption, match="unknown factory 'biuld'") as caught:
        build_network(f"{tiny_module}:biuld", task="segmentation", num_classes=5)
    assert "did you mean 'build'" in caught.value.fix
    assert f"module {tiny_module}" in caught.value.where


def test_a_factory_that_forgets_its_taps_is_refused(tiny_module: str) -> None:
    with pytest.raises(BadOption, match="returned Tiny, not") as caught:
        build_network(f"{tiny_module}:half_done", task="segmentation", num_classes=5)
    assert "'logits': 'head'" in caught.value.fix
