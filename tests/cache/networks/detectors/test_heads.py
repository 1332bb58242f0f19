"""Heads against torchvision's own, slow loops and closed forms: what a map holds and what moves it."""

import math

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.retinanet import RetinaNetHead

from kdcache.cache.networks.families.detectors.assemble import GRIDS
from kdcache.cache.networks.families.detectors.fpn import Pyramid
from kdcache.cache.networks.families.detectors.gfl import AtssHead, GflHead, expected_sides
from kdcache.cache.networks.families.detectors.heads import FcosHead, RetinaHead, seen_from, sides_of_deltas
from kdcache.cache.positions import anchor_sizes, anchors, boxes_at, level_rows, points

SIZE = (96, 160)  # P6 and P7 are rounded up
WIDTH, CLASSES = 32, 3


def some_levels(seed: int = 0) -> list[Tensor]:
    """Five levels of noise for a canvas of `SIZE`, two images."""
    generator = torch.Generator().manual_seed(seed)
    cells = GRIDS["gfl"].cells(*SIZE)
    return [torch.randn(2, WIDTH, height, width, generator=generator) for height, width in cells]


def shaken(module: nn.Module) -> nn.Module:
    """Weights large enough that every map varies."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.08)
    return module.eval()


def test_retinanet_says_what_torchvisions_head_says() -> None:
    grid, parts = GRIDS["retinanet"], RetinaNetHead(WIDTH, 9, CLASSES)
    shaken(parts)
    sizes = [anchor_sizes(grid, stride) for stride in grid.strides]
    levels = some_levels()
    maps, theirs = RetinaHead(grid, parts, sizes, library_points=False)(levels, SIZE), parts(levels)
    rows = torch.cat([level_rows(maps[tap], 9) for tap in grid.groups["cls"]], dim=1)
    assert torch.equal(rows, theirs["cls_logits"])
    own = [
        boxes_at(points_P2, level_rows(maps[tap], 9), stride)
        for points_P2, tap, stride in zip(points(grid, *SIZE), grid.groups["box"], grid.strides, strict=True)
    ]
    coder, all_anchors = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0)), torch.cat(anchors(grid, *SIZE))
    for image, deltas_P4 in enumerate(theirs["bbox_regression"]):
        expected = coder.decode_single(deltas_P4, all_anchors)
        assert torch.allclose(torch.cat([level[image] for level in own]), expected, rtol=1e-5, atol=1e-2)


def test_fcos_says_what_torchvisions_head_says_bit_for_bit() -> None:
    grid, parts = GRIDS["fcos"], FCOSHead(WIDTH, 1, CLASSES)
    shaken(parts)
    levels = some_levels()
    maps, theirs = FcosHead(grid, parts, library_points=False)(levels, SIZE), parts(levels)
    for kind, key in (("cls", "cls_logits"), ("box", "bbox_regression"), ("ctr", "bbox_ctrness")):
        rows = torch.cat([level_rows(maps[tap], 1) for tap in grid.groups[kind]], dim=1)
        assert torch.equal(rows, theirs[key]), kind


def test_bins_become_the_expectation_of_each_side() -> None:
    bins_BCHW = torch.randn(2, 4 * 17, 2, 3, generator=torch.Generator().manual_seed(3)).double()
    sides_BCHW = expected_sides(bins_BCHW)
    for side in range(4):
        logits = [float(bins_BCHW[1, side * 17 + bin_, 1, 2]) for bin_ in range(17)]
        weights = [math.exp(logit) for logit in logits]
        expected = sum(bin_ * w for bin_, w in enumerate(weights)) / sum(weights)
        assert float(sides_BCHW[1, side, 1, 2]) == pytest.approx(expected, abs=1e-12)


def test_a_sure_bin_is_the_side_itself() -> None:
    bins_BCHW = torch.full((1, 4 * 17, 1, 1), -100.0)
    for side, bin_ in enumerate((0, 3, 9, 16)):
        bins_BCHW[0, side * 17 + bin_] = 100.0
    assert expected_sides(bins_BCHW).flatten().tolist() == [0.0, 3.0, 9.0, 16.0]


def test_half_precision_does_not_reach_the_boxes() -> None:
    bins_BCHW = torch.randn(1, 4 * 17, 2, 2, generator=torch.Generator().manual_seed(4)).bfloat16()
    assert torch.equal(expected_sides(bins_BCHW), expected_sides(bins_BCHW.float()))
    deltas_BCHW = torch.randn(1, 4, 2, 2).bfloat16()
    assert sides_of_deltas(deltas_BCHW, torch.tensor([[8.0, 8.0]])).dtype == torch.float32


def test_a_gfl_head_begins_as_published() -> None:
    head = GflHead(GRIDS["gfl"], CLASSES, 256, 4)
    convolutions = [m for m in head.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 10
    assert sum(isinstance(m, nn.GroupNorm) and m.num_groups == 32 for m in head.modules()) == 8
    assert all(float(m.weight.detach().std()) == pytest.approx(0.01, rel=0.05) for m in convolutions)
    assert head.cls.bias is not None and head.cls.bias.tolist() == pytest.approx([-math.log(99)] * CLASSES)
    assert [m.bias is None for m in head.cls_tower if isinstance(m, nn.Conv2d)] == [True] * 4
    assert head.scales_L.tolist() == [1.0] * 5


def test_each_level_has_a_factor_of_its_own() -> None:
    head = GflHead(GRIDS["gfl"], CLASSES, WIDTH, 1)
    shaken(head)
    with torch.no_grad():
        head.scales_L[:] = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])
    maps = head(some_levels(), SIZE)
    assert torch.allclose(maps["box5"], torch.full_like(maps["box5"], 8.0))  # the mean of 0 ... 16
    assert float(maps["box4"].detach().std()) > 0.1


def test_atss_without_deltas_is_its_square_and_moves_by_the_published_shares() -> None:
    head = AtssHead(GRIDS["atss"], CLASSES, WIDTH, 1)
    nn.init.zeros_(head.deltas.weight)
    maps = head(some_levels(), SIZE)
    assert torch.equal(maps["box6"], torch.full_like(maps["box6"], 4.0))
    assert head.deltas.bias is not None
    with torch.no_grad():
        head.deltas.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 5 * math.log(2)]))
    left, top, right, bottom = head(some_levels(), SIZE)["box3"][0, :, 0, 0].tolist()
    assert (left, right) == pytest.approx((4 - 0.8, 4 + 0.8))  # a tenth of the width
    assert (top, bottom) == pytest.approx((8.0, 8.0))  # twice as high


def test_deltas_of_nine_anchors_are_the_boxes_of_a_slow_loop() -> None:
    sizes_A2 = anchor_sizes(GRIDS["retinanet"], 1)
    deltas_BCHW = torch.randn(1, 36, 1, 2, generator=torch.Generator().manual_seed(5)).double()
    sides_BCHW = sides_of_deltas(deltas_BCHW, sizes_A2)
    for anchor in range(9):
        width, height = sizes_A2[anchor].double().tolist()
        dx, dy, dw, dh = deltas_BCHW[0, anchor * 4 : anchor * 4 + 4, 0, 1].tolist()
        half_w, half_h = width * math.exp(dw) / 2, height * math.exp(dh) / 2
        expected = (half_w - dx * width, half_h - dy * height, half_w + dx * width, half_h + dy * height)
        assert sides_BCHW[0, anchor * 4 : anchor * 4 + 4, 0, 1].tolist() == pytest.approx(expected)


def test_a_wild_delta_stays_a_number() -> None:
    sides_BCHW = sides_of_deltas(torch.full((1, 4, 1, 1), 1e4), torch.tensor([[8.0, 8.0]]))
    assert bool(torch.isfinite(sides_BCHW).all())


@pytest.mark.parametrize("kind", ["retinanet", "fcos", "atss", "gfl"])
def test_a_gradient_at_the_boxes_reaches_the_tower_and_the_pyramid(kind: str) -> None:
    grid = GRIDS[kind]
    made = {
        "retinanet": lambda: RetinaHead(
            grid,
            RetinaNetHead(WIDTH, 9, CLASSES),
            [anchor_sizes(grid, stride) for stride in grid.strides],
            library_points=False,
        ),
        "fcos": lambda: FcosHead(grid, FCOSHead(WIDTH, 1, CLASSES), library_points=False),
        "atss": lambda: AtssHead(grid, CLASSES, WIDTH, 1),
        "gfl": lambda: GflHead(grid, CLASSES, WIDTH, 1),
    }
    head = made[kind]()
    levels = [level.requires_grad_() for level in some_levels()]
    maps = head(levels, SIZE)
    sum((maps[tap] * torch.randn_like(maps[tap])).sum() for tap in grid.groups["box"]).backward()
    assert all(level.grad is not None and float(level.grad.abs().sum()) > 0 for level in levels)


def test_points_of_torchvision_are_moved_to_ours() -> None:
    sides_BCHW = torch.zeros(1, 8, 2, 3)  # P7 of 160 x 300 pixels: cells every 80 and every 100
    moved = seen_from(sides_BCHW, 128, (160, 300))
    box = boxes_at(torch.tensor([[2 * 128.0, 128.0]]), moved[0, 4:, 1, 2][None], 128)[0]
    assert box.tolist() == pytest.approx([200.0, 80.0, 200.0, 80.0])
    assert seen_from(sides_BCHW, 128, (256, 384)) is sides_BCHW


def test_the_pyramid_halves_and_rounds_up() -> None:
    maps = [
        torch.randn(1, channels, *cells) for channels, cells in ((8, (12, 20)), (16, (6, 10)), (24, (3, 5)))
    ]
    levels = Pyramid([8, 16, 24], WIDTH)(maps)
    assert list(levels) == ["p3", "p4", "p5", "p6", "p7"]
    assert [tuple(level.shape[1:]) for level in levels.values()] == [
        (WIDTH, height, width) for height, width in GRIDS["gfl"].cells(*SIZE)
    ]
    # P6 comes from P5, not from the encoder's last map.
    pyramid = Pyramid([8, 16, 24], WIDTH)
    levels = pyramid(maps)
    p6 = pyramid.levels.get_submodule("extra_blocks.p6")
    assert torch.equal(levels["p6"], p6(levels["p5"]))
