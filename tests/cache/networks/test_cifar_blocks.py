"""Blocks of the CIFAR networks against plain formulas of the papers."""

import torch
import torch.nn.functional as F

from kdcache.cache.networks.families.cifar import OptionA, WideBlock


def test_the_parameter_free_shortcut_takes_every_second_cell_between_new_channels_of_zeros() -> None:
    maps_BCHW = torch.randn(2, 4, 6, 6)
    longer_BCHW = OptionA(4, 8, 2)(maps_BCHW)
    assert longer_BCHW.shape == (2, 8, 3, 3)
    assert torch.equal(longer_BCHW[:, 2:6], maps_BCHW[:, :, ::2, ::2])
    assert not longer_BCHW[:, :2].any() and not longer_BCHW[:, 6:].any()


def test_a_wide_block_projects_its_activated_input_and_adds_a_plain_one_as_it_is() -> None:
    # Zagoruyko and Komodakis 2016, figure 1: BatchNorm and ReLU come before the projection.
    torch.manual_seed(0)
    maps_BCHW = torch.randn(2, 4, 6, 6)
    projecting, plain = WideBlock(4, 8, 2).eval(), WideBlock(4, 4, 1).eval()
    for block in (projecting, plain):
        torch.nn.init.zeros_(block.conv2.weight)  # the shortcut alone
    active_BCHW = F.relu(maps_BCHW / (1 + 1e-5) ** 0.5)
    shortcut_BCHW = F.conv2d(active_BCHW, projecting.convShortcut.weight, stride=2)
    torch.testing.assert_close(projecting(maps_BCHW)[0], shortcut_BCHW)
    assert torch.equal(plain(maps_BCHW)[0], maps_BCHW)
