"""Crops of decoded images: what numpy makes by hand of every geometry, and nothing of a neighbour."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.cache.images.decoded import Decoded, Reach, joined, layout_of, reach_of
from kdcache.cache.spec import FILL_RGB
from kdcache.cache.views.view import Geometry

FILL = np.array(FILL_RGB, dtype=np.uint8)


def by_hand(image_HWC: np.ndarray, g: Geometry) -> np.ndarray:
    """Flip, then crop, pixel by pixel."""
    seen = image_HWC[:, ::-1] if g.flip else image_HWC
    out = np.empty((g.crop_h, g.crop_w, 3), dtype=np.uint8)
    for y in range(g.crop_h):
        for x in range(g.crop_w):
            at = (g.crop_y + y, g.crop_x + x)
            inside = 0 <= at[0] < seen.shape[0] and 0 <= at[1] < seen.shape[1]
            out[y, x] = seen[at] if inside else FILL
    return out


def kept(images: list[np.ndarray], geometry: np.ndarray) -> Decoded:
    sizes = np.array([image.shape[:2] for image in images], dtype=np.int64)
    layout = layout_of(sizes, np.ones(len(images), dtype=bool), reach_of(geometry))
    decoded = Decoded(layout, np.empty(layout.num_pixels * 3, dtype=np.uint8), FILL_RGB, written=False)
    for index, image in enumerate(images):
        decoded.put(index, image)
    return decoded


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Images of different sizes, rows that show them, and the geometry of each."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    sizes = draw(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=4))
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    crop_h, crop_w = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    samples = np.array(draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=6)))
    rows = []
    for sample in samples.tolist():
        height, width = sizes[sample]
        y, x = draw(st.integers(1 - crop_h, height - 1)), draw(st.integers(1 - crop_w, width - 1))
        rows.append(Geometry(height, width, draw(st.integers(0, 1)), y, x, crop_h, crop_w))
    return images, samples, np.array(rows, dtype=np.int32)


@settings(max_examples=150, deadline=None)
@given(scenes())
def test_every_crop_is_the_one_that_is_cut_by_hand(
    scene: tuple[list[np.ndarray], np.ndarray, np.ndarray],
) -> None:
    images, samples, geometry = scene
    crops = kept(images, geometry).crops(samples, geometry)
    for place, sample in enumerate(samples.tolist()):
        wanted = by_hand(images[sample], Geometry(*geometry[place].tolist()))
        assert np.array_equal(crops[place], wanted)
    assert crops.flags.writeable and crops.flags.c_contiguous


def test_a_crop_owns_its_memory() -> None:
    """A training loop may hold a batch and change it."""
    image = np.full((4, 4, 3), 7, dtype=np.uint8)
    rows = np.array([Geometry(4, 4, 0, 0, 0, 4, 4)], dtype=np.int32)
    decoded = kept([image], rows)
    decoded.crops(np.array([0]), rows)[:] = 0
    assert np.array_equal(decoded.crops(np.array([0]), rows)[0], image)


def test_images_that_nobody_reads_take_no_room_and_mirror_images_only_where_crops_are_flipped() -> None:
    sizes, reach = np.array([[4, 4], [100, 100], [4, 4]]), Reach(beside=2, width=4, flips=False)
    some = layout_of(sizes, np.array([True, False, True]), reach)
    assert some.num_pixels == 4 + 2 * 4 * (4 + 2)
    both = layout_of(sizes, np.array([True, False, True]), reach._replace(flips=True))
    assert both.num_pixels == 4 + 4 * 4 * (4 + 2)


def test_reaches_are_joined_to_one_that_holds_all() -> None:
    assert joined([]) == Reach(0, 1, False)
    assert joined([Reach(3, 8, False), Reach(1, 9, True)]) == Reach(3, 9, True)
    assert reach_of(np.zeros((0, 7), dtype=np.int32)) == Reach(0, 1, False)


def test_a_flipped_crop_without_mirror_images_is_a_bug_and_no_other_pixels() -> None:
    image, plain = np.zeros((4, 4, 3), dtype=np.uint8), Geometry(4, 4, 0, 0, 0, 4, 4)
    decoded = kept([image], np.array([plain], dtype=np.int32))
    with pytest.raises(AssertionError, match="mirror"):
        decoded.crops(np.array([0]), np.array([plain._replace(flip=1)], dtype=np.int32))
