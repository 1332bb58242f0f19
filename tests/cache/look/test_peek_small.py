"""Pictures of small canvases: what stands on them hides nothing, and what has one cell is not black."""

from pathlib import Path

import numpy as np
import pytest
from aligned_classes import build_class_cache
from PIL import Image
from tiny_folder import draw_folder

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.look.peek import GAP_PX, TITLE_PX, peek
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.tasks.panels import PANEL_PX

TOML = """
[[class]]
name = "sky"
id = 0
colour = [250, 128, 64]
[[class]]
name = "ground"
id = 1
[[class]]
name = "thing"
id = 2
colour = "#0000ff"
"""


def small_cache(home: Path) -> Cache:
    """Of noise of 32x32 pixels in two classes, each seen whole."""
    for number, name in enumerate(("cat", "dog")):
        noise = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        (home / "data" / "train" / name).mkdir(parents=True)
        Image.fromarray(noise).save(home / "data" / "train" / name / "0.png")
    return build_class_cache(home / "data", "zarr", "none", views="crops:1")


def panel(sheet: np.ndarray, place: int) -> np.ndarray:
    left = place * (PANEL_PX + GAP_PX)
    return sheet[TITLE_PX:, left : left + PANEL_PX]


def drawn(cache: Cache, key: str, out: Path) -> tuple[list[str], np.ndarray]:
    titles = peek(cache, key, 0, out)
    with Image.open(out) as picture:
        return titles, np.asarray(picture.convert("RGB"))


def test_every_pixel_of_a_small_image_is_a_square_below_its_title(tmp_path: Path) -> None:
    cache = small_cache(tmp_path)
    titles, sheet = drawn(cache, "cat/0", tmp_path / "p.png")
    with Image.open(tmp_path / "data" / "train" / "cat" / "0.png") as stored:
        image = np.asarray(stored.convert("RGB"))
    times = PANEL_PX // image.shape[1]
    shown = panel(sheet, titles.index("image"))[: times * len(image), : times * image.shape[1]]
    np.testing.assert_array_equal(shown, np.kron(image, np.ones((times, times, 1), dtype=np.uint8)))


def test_a_pooled_tap_is_a_square_of_cells_that_nothing_stretches(tmp_path: Path) -> None:
    """A map of one cell was black: it has no component in which it differs from itself."""
    cache = small_cache(tmp_path)
    titles, sheet = drawn(cache, "cat/0", tmp_path / "p.png")
    (title,) = [title for title in titles if title.startswith("embedding")]
    num_cells = int(title.rpartition(" ")[2])
    side = int(np.ceil(np.sqrt(num_cells)))
    times = PANEL_PX // side
    square = panel(sheet, titles.index(title))[: side * times, : side * times]
    cells = square.reshape(side, times, side, times, 3)
    assert (cells == cells[:, :1, :, :1]).all(), "each cell is one square of one grey"
    assert {0, 255} <= set(cells[:, 0, :, 0].ravel().tolist()), "from its lowest to its highest value"


@pytest.mark.parametrize("shape", [(1, 1, 9), (9,)])
def test_a_map_of_one_cell_is_drawn_as_the_vector_that_it_is(shape: tuple[int, ...]) -> None:
    from kdcache.cache.look.peek import _tap_panels

    value = np.arange(9, dtype=np.float32).reshape(shape)
    ((_, pixels),) = _tap_panels("pooled", value, None)
    times = PANEL_PX // 3
    assert [int(pixels[times * (n // 3), times * (n % 3), 0]) for n in range(9)] == [
        round(n / 8 * 255) for n in range(9)
    ]


def test_classes_have_the_colours_that_the_data_give_them(tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "data", count=2, sizes=((32, 32),))
    (root / "classes.txt").unlink()
    (root / "classes.toml").write_text(TOML)
    options = BuildOptions(
        runs_dir=tmp_path / "runs", caches_dir=tmp_path / "caches", teacher="tiny_teacher:make",
        data=f"folder:{root}", views="full", crop=(32, 32), taps=(parse_tap("logits=fp16"),),
    )  # fmt: skip
    cache = open_cache(build_cache(options).root)
    titles, sheet = drawn(cache, str(cache.key(0)), tmp_path / "p.png")
    with Image.open(root / "train" / "labels" / f"{cache.key(0)}.png") as stored:
        label = np.asarray(stored)
    shown = panel(sheet, titles.index("label"))[: 32 * 10 : 10, : 32 * 10 : 10]
    assert {0, 2} <= set(label.ravel().tolist())
    assert (shown[label == 0] == (250, 128, 64)).all() and (shown[label == 2] == (0, 0, 255)).all()
    assert (shown[label == 1] != 0).any(), "a class without a colour of the data has its own"
    said = {
        tuple(pixel) for pixel in panel(sheet, titles.index("teacher"))[:320, :320].reshape(-1, 3).tolist()
    }
    assert said <= {(250, 128, 64), (0, 0, 255), tuple(shown[label == 1][0].tolist())}
