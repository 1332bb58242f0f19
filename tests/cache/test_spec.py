"""The shared words: cells that cover pixels, bytes of parts, names of needs, members of an ensemble."""

import pytest

from kdcache.cache.spec import Need, PartSpec, TensorSpec, ceil_div, members_of


@pytest.mark.parametrize(("pixels", "stride", "cells"), [(1, 8, 1), (8, 8, 1), (9, 8, 2), (513, 16, 33)])
def test_cells_cover_every_pixel(pixels: int, stride: int, cells: int) -> None:
    assert ceil_div(pixels, stride) == cells


def test_maps_are_kept_under_their_size_and_vectors_under_their_name() -> None:
    assert TensorSpec((45, 60, 19), 8).size_key == "45x60" and TensorSpec((45, 60, 19), 8).channels == 19
    assert TensorSpec((512,), 0).size_key == "vector" and TensorSpec((512,), 0).channels == 512


@pytest.mark.parametrize(
    ("dtype", "num_bytes"),
    [("uint8", 70_000 * 70_000), ("float16", 2 * 70_000**2), ("float32", 4 * 70_000**2)],
)
def test_bytes_of_a_part_are_counted_without_overflow(dtype: str, num_bytes: int) -> None:
    assert PartSpec((70_000, 70_000), dtype, False).num_bytes == num_bytes
    assert PartSpec((), dtype, False).num_bytes == num_bytes // 70_000**2


def test_a_need_is_kept_under_its_tap_and_what_it_keeps_of_it() -> None:
    assert Need(tap="stage4").name == "stage4"
    assert Need(tap="stage4", reduction="package.module:attention").name == "stage4.attention"


def test_the_mean_over_an_ensemble_answers_what_every_member_has() -> None:
    kept = ("a.logits", "b.logits", "a.stage4")
    assert members_of(kept, "logits") == ("a.logits", "b.logits")
    assert members_of(("b.logits", "a.logits"), "logits") == ("b.logits", "a.logits")
    assert members_of(kept, "stage4") == ()  # a mean over some of them would be another teacher
    assert members_of((*kept, "logits"), "logits") == ()  # kept itself
    assert members_of(("a.logits",), "logits") == ()  # one teacher is no ensemble
    assert members_of((), "logits") == ()


def test_what_is_kept_of_a_tap_is_not_taken_for_a_member() -> None:
    assert members_of(("logits", "stage4", "stage4.attention"), "attention") == ()
    assert members_of(("a.logits", "b.logits", "logits.top"), "logits") == ("a.logits", "b.logits")
    kept = ("a.stage4", "a.stage4.attention", "b.stage4", "b.stage4.attention")
    assert members_of(kept, "stage4.attention") == ("a.stage4.attention", "b.stage4.attention")
