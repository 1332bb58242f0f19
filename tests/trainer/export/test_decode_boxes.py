"""The numpy decoder that leaves with a detector says the boxes that are judged."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kdcache.cache.grid import DenseGrid
from kdcache.cache.networks.families.detectors.decode import decode as judged
from kdcache.trainer.export import decode_boxes
from kdcache.trainer.export.decode_boxes import decode

SIZE, CLASSES = (64, 96), 3
GRIDS = {
    "bins": DenseGrid(levels=(3, 4, 5), strides=(8, 16, 32), num_bins=17),
    "centerness": DenseGrid(levels=(3, 4, 5), strides=(8, 16, 32), score="sigmoid*ctr"),
    "anchors": DenseGrid(levels=(3, 4), strides=(8, 16), anchors_per_cell=9, assigner="max_iou"),
}


def drawn(grid: DenseGrid, shift: float) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    channels = {"cls": CLASSES * grid.anchors_per_cell, "box": 4 * grid.anchors_per_cell, "ctr": 1}
    return {
        tap: torch.randn(2, channels[kind], *cells, generator=draw) * 2 + (2 if kind == "box" else shift)
        for kind in channels
        for tap, cells in zip(grid.groups.get(kind, ()), grid.cells(*SIZE), strict=False)
    }


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("shift", [-4.0, 0.0, -40.0])
def test_boxes_scores_and_classes_are_those_of_the_judge(name: str, shift: float) -> None:
    maps = drawn(GRIDS[name], shift)
    wanted = judged(maps, GRIDS[name], CLASSES, SIZE)
    said = decode({tap: value.numpy() for tap, value in maps.items()}, GRIDS[name].to_dict(), SIZE)
    assert len(said) == 2 and (len(said[0][0]) > 3) == (shift > -40)
    for (boxes_N4, scores_N, classes_N), theirs in zip(said, wanted, strict=True):
        np.testing.assert_allclose(boxes_N4, theirs.boxes_N4.numpy(), atol=1e-3)
        np.testing.assert_allclose(scores_N, theirs.scores_N.numpy(), rtol=1e-5)
        np.testing.assert_array_equal(classes_N, theirs.classes_N.numpy())


def test_it_runs_where_numpy_alone_is(tmp_path: Path) -> None:
    (tmp_path / "decode.py").write_bytes(Path(decode_boxes.__file__).read_bytes())
    code = "import sys, decode; sys.exit(bool({'torch', 'kdcache'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
