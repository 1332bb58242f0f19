"""`kdcache taps` of a detector: levels under their group, with what the group costs in all."""

from kdcache.cache.networks.build import build_network
from kdcache.cli.caches.taps_table import taps_table


def test_levels_stand_under_their_group_with_its_bytes() -> None:
    network = build_network("gfl(width=32,convs=1):mbv2", task="detection", num_classes=80)
    columns = [list(map(str, column.cells)) for column in taps_table(network, (640, 640)).drawn.columns]
    names, cells, strides, codecs = columns[0], columns[2], columns[3], columns[4]
    assert names[:4] == ["stage1", "stage2", "stage3", "stage4"]
    assert names[4:11] == ["fpn", "  p3", "  p4", "  p5", "  p6", "  p7", "cls"]
    assert len(names) == 4 + 4 * 6
    row = names.index("  cls6")
    assert (cells[row], strides[row], codecs[row]) == ("10 x 10 x 80", "64", "int8")
    # 80 x 80 to 5 x 5 cells, four sides of two bytes: 8,525 cells.
    assert columns[5][names.index("box")] == f"{8525 * 8 / 1024:.1f} KiB"


def test_a_network_without_groups_is_a_plain_list() -> None:
    network = build_network("mbv2", task="segmentation", num_classes=3)
    assert list(map(str, taps_table(network, (64, 64)).drawn.columns[0].cells)) == list(network.taps)
