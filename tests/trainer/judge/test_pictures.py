"""Pictures of what networks say: a row per image, and columns that stand under their titles."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_folder import CLASSES, draw_folder

from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.run_card import RunCard, save_run_network
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.labels import decode_label
from kdcache.cache.sources.table import open_source
from kdcache.cache.tasks.panels import colour_classes
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.trainer.judge.pictures import CELL_PX, TITLE_PX, draw_predictions


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return open_source(f"folder:{draw_folder(tmp_path / 'data', 3)}", "train")


def constant_run(folder: Path, answer: int) -> Path:
    """A run whose network says `answer` of every pixel."""
    network = build_network("tiny_teacher:make", task=SEGMENTATION, num_classes=3, role="student")
    head = network.model.get_submodule("head")
    head.weight.data.zero_()  # type: ignore[operator, union-attr]
    head.bias.data[:] = 0  # type: ignore[index, operator, union-attr]
    head.bias.data[answer] = 5  # type: ignore[index, operator, union-attr]
    card = RunCard(network={}, data="folder:x", class_names=CLASSES, crop=(64, 64), output_stride=8)
    save_run_network(folder, network, card)
    return folder


def cell(pixels: np.ndarray, height: int) -> np.ndarray:
    shown = Image.fromarray(pixels).resize((CELL_PX - 2, height - 2), Image.Resampling.NEAREST)
    return np.asarray(shown)


def test_each_row_shows_its_image_its_truth_and_what_each_run_says(source: Source, tmp_path: Path) -> None:
    runs = {f"says{n}": constant_run(tmp_path / "runs" / f"says{n}", n) for n in (2, 0)}
    draw_predictions(runs, source, [2, 1], tmp_path / "out.png")
    sheet = np.asarray(Image.open(tmp_path / "out.png"))
    assert sheet.shape[1] == 4 * CELL_PX
    top = TITLE_PX
    for index in (2, 1):
        label_HW = decode_label(source.label_bytes(index), key="k", path=Path("p")).ids_HW
        height = round(CELL_PX * label_HW.shape[0] / label_HW.shape[1])
        wanted = [colour_classes(label_HW, 3)]
        wanted += [colour_classes(np.full_like(label_HW, answer), 3) for answer in (2, 0)]
        for column, pixels in enumerate(wanted, 1):
            left = column * CELL_PX
            shown = sheet[top : top + height - 2, left : left + CELL_PX - 2]
            np.testing.assert_array_equal(shown, cell(pixels, height), f"image {index}, column {column}")
        top += height
    assert sheet.shape[0] == top
