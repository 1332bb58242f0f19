"""A network that leaves: float pixels, normalisation, padding and cutting inside, what `Network` says."""

import pytest
import torch
from torch.nn.functional import interpolate

from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.deployed import Deployed
from kdcache.cache.networks.network import Network

PLAIN = {"num_classes": 3, "role": "student", "weights": "none"}


def segmenter(stride: int) -> Network:
    torch.manual_seed(0)
    made = build_network("deeplabv3:test_resnet", task="segmentation", output_stride=stride, **PLAIN)
    return made.eval()


@pytest.mark.parametrize("size", [(64, 96), (75, 100), (67, 41)])
def test_maps_of_any_size_are_those_of_the_network_enlarged(size: tuple[int, int]) -> None:
    network = segmenter(8)
    images_BHWC = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    floats_BCHW = images_BHWC.permute(0, 3, 1, 2).float()
    with torch.no_grad():
        maps = network(images_BHWC, ("logits", "stage1"))
        plain = Deployed(network, ("stage1", "logits"), enlarged=False)(floats_BCHW)
        (large,) = Deployed(network, ("logits",), enlarged=True)(floats_BCHW)
    torch.testing.assert_close(plain, (maps["stage1"], maps["logits"]), atol=1e-5, rtol=1e-4)
    wanted = interpolate(maps["logits"], size=size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(large, wanted, atol=1e-5, rtol=1e-4)


def test_a_classifier_is_not_padded() -> None:
    torch.manual_seed(0)
    network = build_network("timm:test_resnet", task="classification", **PLAIN).eval()
    images_BHWC = torch.randint(0, 256, (2, 45, 50, 3), dtype=torch.uint8)
    with torch.no_grad():
        (said,) = Deployed(network, ("logits",), enlarged=False)(images_BHWC.permute(0, 3, 1, 2).float())
        torch.testing.assert_close(said, network(images_BHWC, ("logits",))["logits"], atol=1e-5, rtol=1e-4)


def test_sizes_are_free_from_where_every_map_has_three_cells() -> None:
    assert Deployed(segmenter(16), ("logits",), enlarged=True).least_px == 33
