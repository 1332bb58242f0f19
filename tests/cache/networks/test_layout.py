"""In which order a network's maps lie in memory: by a rule, and without a trace in what is kept."""

import pytest
import torch
from torch import nn

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.layout import CHANNELS_LAST, CONTIGUOUS, faster_format, lay_out
from kdcache.cache.networks.weights import weights_digest


def convolution(**options: int) -> nn.Conv2d:
    return nn.Conv2d(8, 8, 3, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layers", "stride", "wanted"),
    [
        ([convolution(), convolution()], 32, CHANNELS_LAST),
        ([convolution()], 32, CONTIGUOUS),  # the patches of a transformer
        ([nn.Linear(3, 3)], 32, CONTIGUOUS),
        ([convolution(), convolution(dilation=2)], 8, CONTIGUOUS),
        ([convolution(), convolution(dilation=2)], 16, CHANNELS_LAST),
        ([convolution(groups=8), convolution(dilation=2)], 8, CHANNELS_LAST),
    ],
)
def test_the_format_follows_from_the_layers(layers: list[nn.Module], stride: int, wanted: str) -> None:
    assert faster_format(nn.Sequential(*layers), stride) == wanted


def test_a_network_is_built_in_the_faster_format_and_answers_in_it() -> None:
    network = build_network("resnet8", task="classification", num_classes=4).eval()
    assert network.memory_format == CHANNELS_LAST
    images_BHWC = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        stage_BCHW = network(images_BHWC, ("stage2",))["stage2"]
        assert stage_BCHW.is_contiguous(memory_format=torch.channels_last) and not stage_BCHW.is_contiguous()
        network.lay_out(CONTIGUOUS)
        other_BCHW = network(images_BHWC, ("stage2",))["stage2"]
    assert other_BCHW.is_contiguous()
    torch.testing.assert_close(stage_BCHW, other_BCHW, rtol=1e-4, atol=1e-4)


def test_code_of_ones_own_keeps_the_format_that_it_was_written_for() -> None:
    """`x.view(...)` of a map raises where it lies channels last."""
    network = build_network("tiny_classifier:make", task="classification", num_classes=4)
    assert network.memory_format == CONTIGUOUS


def test_the_digest_of_weights_knows_no_format() -> None:
    network = build_network("resnet8", task="classification", num_classes=4)
    before = weights_digest(network)
    network.lay_out(CONTIGUOUS)
    assert weights_digest(network) == before


def test_members_of_an_ensemble_lie_each_in_its_own_format() -> None:
    from kdcache.cache.networks.ensemble import Ensemble

    members = {
        "a": build_network("resnet8", task="classification", num_classes=4),
        "b": build_network("tiny_classifier:make", task="classification", num_classes=4),
    }
    both = Ensemble("a,b", members)
    assert both.memory_format == f"{CHANNELS_LAST}+{CONTIGUOUS}"
    both.lay_out(both.memory_format)
    assert members["a"].memory_format == CHANNELS_LAST
    both.lay_out(CONTIGUOUS)
    assert both.memory_format == members["a"].memory_format == CONTIGUOUS


def test_an_unknown_format_is_an_error_that_names_the_others() -> None:
    with pytest.raises(BadOption, match="memory format 'blocked'") as error:
        lay_out(convolution(), "blocked")
    assert CHANNELS_LAST in error.value.fix
