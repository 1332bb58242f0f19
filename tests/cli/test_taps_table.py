"""`kdcache taps` of a detector: levels under their group, with what the group costs in all."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.torch import save_file

from kdcache.cache.networks.build import build_network
from kdcache.cli.caches.taps_table import taps_table
from kdcache.cli.kdcache import main


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


def written_weights(name: str, task: str, num_classes: int, path: Path) -> str:
    network = build_network(name, task=task, num_classes=num_classes)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return str(path)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("mbv2", "segmentation"),
        ("resnet20", "classification"),
        ("gfl(width=16,convs=1):test_resnet", "detection"),
    ],
)
def test_weights_say_themselves_how_many_classes_they_tell_apart(
    name: str, task: str, tmp_path: Path
) -> None:
    """Whatever was asked for is compared with them, in every task."""
    words = ["--teacher", name, "--task", task, "--crop", "64"]
    words += ["--weights", written_weights(name, task, 7, tmp_path / "w.safetensors")]
    listed = CliRunner().invoke(main, ["taps", *words], catch_exceptions=False)
    assert listed.exit_code == 0 and " of 7 classes, input 64x64, weights" in " ".join(listed.output.split())
    assert CliRunner().invoke(main, ["taps", *words, "--classes", "7"]).output == listed.output
    other = CliRunner().invoke(main, ["taps", *words, "--classes", "5"])
    said = " ".join(other.stderr.split())
    assert other.exit_code == 2 and "the weights tell 7 classes apart, --classes says 5" in said
    assert said.endswith("leave --classes out, or give --classes 7")
