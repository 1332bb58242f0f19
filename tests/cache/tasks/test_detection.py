"""Objects as truth: stored as written, moved with the view, padded to a batch, drawn as frames."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdcache.cache.errors import BadOption
from kdcache.cache.grid import DenseGrid
from kdcache.cache.tasks.contract import AnsweredRow, RowTruth
from kdcache.cache.tasks.detection import KIND, Objects, encode_objects
from kdcache.cache.tasks.panels import class_colour
from kdcache.cache.views.recipe import parse_recipe
from kdcache.cache.views.sets import parse_views
from kdcache.cache.views.view import Geometry

TRUTH, NAMES = Objects(), ("cat", "dog", "owl")
WHOLE = Geometry(100, 200, 0, 0, 0, 128, 224)
SIZE = (100, 200)
FLOATS = st.floats(-1e6, 1e6, allow_nan=False)


def objects(*rows: tuple[float, ...]) -> np.ndarray:
    """x1 y1 x2 y2 class crowd, with an area and an id that nobody should mistake for them."""
    whole = [(*row, 1000.5 + number, 77 + number) for number, row in enumerate(rows)]
    return np.array(whole, dtype=np.float64).reshape(-1, 8)


def encoded(**changes: object) -> bytes:
    plain = {"boxes": [[1, 2, 3.5, 4]], "classes": [2], "crowd": [0], "area": [9.25], "ids": [5]}
    return json.dumps(plain | changes).encode()


@pytest.mark.parametrize("wrap", [bytes, memoryview])
def test_objects_are_parsed_as_they_are_written(wrap: type) -> None:
    parsed = TRUTH.parse(wrap(encoded()))
    assert parsed.dtype == np.float64 and parsed.tolist() == [[1, 2, 3.5, 4, 2, 0, 9.25, 5]]


@given(st.lists(st.tuples(FLOATS, FLOATS, FLOATS, FLOATS, st.integers(0, 90), st.integers(0, 1)), max_size=5))
def test_what_is_stored_comes_back_to_the_last_bit(rows: list[tuple[float, ...]]) -> None:
    written = objects(*rows)
    np.testing.assert_array_equal(TRUTH.parse(encode_objects(written)), written)


def test_equal_objects_are_stored_as_equal_bytes() -> None:
    assert encode_objects(objects((1, 2, 3, 4, 0, 0))) == (
        b'{"boxes":[[1.0,2.0,3.0,4.0]],"classes":[0],"crowd":[0],"area":[1000.5],"ids":[77]}'
    )


@pytest.mark.parametrize(
    "torn",
    [b"", b"{}", encoded(boxes=[[1, 2, 3]]), encoded(ids=[]), encoded(classes=["cat"]), encoded(masks=[])],
)
def test_other_bytes_are_no_objects(torn: bytes) -> None:
    with pytest.raises(ValueError):
        TRUTH.parse(torn)


def test_an_image_without_objects_has_an_array_without_rows() -> None:
    nothing = encode_objects(objects())
    assert TRUTH.parse(nothing).shape == (0, 8)
    moved = TRUTH.moved(TRUTH.parse(nothing), WHOLE, (), SIZE)
    assert moved.shape == (0, 5)
    batch, mixed = TRUTH.collate([RowTruth(moved), RowTruth(moved)], None)
    assert batch.shape == (2, 0, 5) and batch.dtype == torch.float32 and mixed is None


def test_the_index_counts_boxes_that_training_may_use() -> None:
    x = objects((0, 0, 10, 10, 0, 0), (0, 0, 10, 10, 0, 1), (5, 5, 5, 9, 1, 0), (190, 0, 300, 50, 2, 0))
    assert TRUTH.column_values(encode_objects(x), SIZE) == {"objects": 2}
    assert TRUTH.column_values(encode_objects(x), (100, 150)) == {"objects": 1}
    assert TRUTH.column_values(None, SIZE) == {"objects": 0} and TRUTH.counts in TRUTH.columns


def test_columns_that_cannot_be_true_are_refused() -> None:
    TRUTH.check_columns({"objects": np.array([3, 0, 0])}, np.array([True, True, False]), 2)
    for counts in ([3, -1, 0], [3, 0, 1]):
        with pytest.raises(ValueError, match="objects"):
            TRUTH.check_columns({"objects": np.array(counts)}, np.array([True, True, False]), 2)


def test_a_view_shows_what_is_no_crowd_with_its_class() -> None:
    x = objects(
        (150, 0, 150, 9, 1, 0), (20, 30, 60, 90, 2, 0), (0, 0, 50, 50, 1, 1), (180, 10, 230, 60, 0, 0)
    )
    assert TRUTH.moved(x, WHOLE, (), SIZE).tolist() == [[20, 30, 60, 90, 2], [180, 10, 200, 60, 0]]
    mirrored = TRUTH.moved(x, WHOLE._replace(flip=1), (("brightness", 1200),), SIZE)
    assert mirrored.tolist() == [[140, 30, 180, 90, 2], [0, 10, 20, 60, 0]]


def test_rows_are_padded_to_the_one_with_the_most_objects() -> None:
    rows = [TRUTH.moved(x, WHOLE, (), SIZE) for x in (
        objects((0, 0, 10, 10, 1, 0)), objects(), objects((1.25, 2, 30, 40, 0, 0), (5, 6, 70, 80, 2, 0))
    )]  # fmt: skip
    batch_BM5, _ = TRUTH.collate([RowTruth(row) for row in rows], None)
    assert batch_BM5.dtype == torch.float32
    assert batch_BM5.tolist() == [
        [[0, 0, 10, 10, 1], [0, 0, 0, 0, -1]],
        [[0, 0, 0, 0, -1], [0, 0, 0, 0, -1]],
        [[1.25, 2, 30, 40, 0], [5, 6, 70, 80, 2]],
    ]


def test_a_judge_collates_what_is_written_likewise() -> None:
    """Of eight columns the first five are kept: crowds are for judges to ask of the sample."""
    batch_BM5, _ = TRUTH.collate([RowTruth(objects((1, 2, 3, 4, 2, 0)))], None)
    assert batch_BM5.tolist() == [[[1, 2, 3, 4, 2]]]


def test_frames_lie_on_the_last_pixels_inside_their_boxes() -> None:
    image_HWC = np.full((80, 320, 3), 90, dtype=np.uint8)
    row = RowTruth(np.array([[10, 5, 50, 35, 1.0]]))
    panel = TRUTH.panel(row, None, NAMES, image_HWC)
    colour = np.array(class_colour(1))
    framed = (panel == colour).all(axis=2)
    assert (
        framed[5, 10:50].all()
        and framed[34, 10:50].all()
        and framed[5:35, 10].all()
        and framed[5:35, 49].all()
    )
    assert not framed[4].any() and not framed[35].any() and not framed[:, 9].any() and not framed[:, 50].any()
    assert (image_HWC == 90).all(), "the image itself was drawn on"
    named = TRUTH.panel(RowTruth(np.array([[10, 5, 50, 35, 0.0]])), None, NAMES, image_HWC)
    assert (panel != named).any()
    np.testing.assert_array_equal(TRUTH.panel(RowTruth(np.zeros((0, 5))), None, NAMES, image_HWC), image_HWC)


def test_a_small_image_is_enlarged_before_frames_and_letters_lie_on_it() -> None:
    image_HWC = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    bare = TRUTH.panel(RowTruth(np.zeros((0, 5))), None, NAMES, image_HWC)
    np.testing.assert_array_equal(bare, np.kron(image_HWC, np.ones((10, 10, 1), dtype=np.uint8)))
    drawn = TRUTH.panel(RowTruth(np.array([[2, 3, 30, 22, 1.0]])), None, NAMES, image_HWC)
    framed = (drawn == np.array(class_colour(1))).all(axis=2)
    assert framed[30, 20:300].all() and framed[219, 20:300].all() and framed[30:220, 20].all()
    hidden = (drawn != bare).any(-1).reshape(24, 10, 32, 10).all((1, 3))
    assert hidden.sum() <= 4, "a cell of the image that nobody sees any more"


def test_sure_detections_are_drawn_on_their_image() -> None:
    image = np.zeros((64, 320, 3), dtype=np.uint8)
    said = np.array([[10.2, 5, 50.5, 35, 1, 0.9], [0, 40, 20, 60.5, 2, 0.2]])
    drawn = TRUTH.answer_panel(said, NAMES, image)
    assert drawn.shape == image.shape and drawn[5, 12:50].any() and not drawn[40:].any(), "0.2 is not sure"
    assert not TRUTH.answer_panel(np.zeros((0, 6)), NAMES, image).any()


def test_a_teachers_boxes_are_decoded_from_its_stored_maps() -> None:
    """One confident cell of one level: its box, class and score; nothing where a level is not stored."""
    grid = DenseGrid(levels=(3, 4), strides=(8, 16))
    values = {
        "a.cls3": np.full((4, 6, 3), -9.0),
        "a.box3": np.ones((4, 6, 4)),
        "a.cls4": np.full((2, 3, 3), -9.0),
    }
    values["a.cls3"][2, 3, 1] = 2.0
    row = AnsweredRow(values, {"a.": grid}, (32, 48))
    assert TRUTH.answers(row) == {}
    values["a.box4"] = np.ones((2, 3, 4))
    (boxes,) = TRUTH.answers(row).values()
    np.testing.assert_allclose(boxes, [[16, 8, 32, 24, 1, 1 / (1 + np.exp(-2.0))]], rtol=1e-6)


# ---- what the task allows ------------------------------------------------------------------------------


def test_the_default_is_the_whole_image_and_its_mirror_image() -> None:
    assert KIND.views_said == "fit --mirror"
    recipe = parse_recipe("", KIND.recipes)
    views = parse_views(KIND.default_views, crop=(64, 64), seed=0, mirror=KIND.views.mirror, augment=recipe)
    assert [one.kind for one in views] == ["fit", "fit-mirror"] and recipe.text == "fit=1x1,flip"
    assert parse_recipe("none", KIND.recipes).text == "fit=1x1"


@pytest.mark.parametrize(
    "item", ["erase=0.5", "mixup=0.2", "cutmix=1", "rrc", "pad=4", "scale=1x2", "randaugment=2x9"]
)
def test_what_boxes_do_not_follow_is_refused(item: str) -> None:
    with pytest.raises(BadOption) as caught:
        parse_recipe(item, KIND.recipes)
    assert caught.value.what == f"detection cannot have {item.partition('=')[0]}: boxes do not follow"
    assert "--augment fit=0.7x1.5,flip,jitter=0.4" in caught.value.fix
    assert parse_recipe("fit=0.7x1.5,flip,jitter=0.4", KIND.recipes).fit == (0.7, 1.5)


@pytest.mark.parametrize("views", ["full", "turns:2", "crops:2+full"])
def test_views_that_make_no_batch_or_show_another_image_are_refused(views: str) -> None:
    with pytest.raises(BadOption) as caught:
        parse_views(views, crop=(64, 64), seed=0, mirror=False, rules=KIND.views)
    assert "views are not for objects" in caught.value.what and "make no batch" in caught.value.what
    assert "--views fit --mirror" in caught.value.fix


def test_both_sides_of_a_canvas_are_multiples_of_32() -> None:
    KIND.check_input((480, 640), where="--crop 480,640")
    with pytest.raises(BadOption) as caught:
        KIND.check_input((480, 650), where="--crop 480,650")
    assert "480x650 pixels: both sides must be multiples of 32" in caught.value.what
    assert caught.value.fix == "use --crop 480x672" and caught.value.where == "--crop 480,650"
