"""Turns of tiny batches: what is stored does not depend on how many are decoded or encoded at once."""

from pathlib import Path
from typing import NamedTuple

import class_data as draw
import pytest

from kdcache.cache.build import targets
from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.build.stages import finish, together
from kdcache.cache.build.stages.together import MOST_ROWS, TURN_PX, turns
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.views.view import Geometry, Row


class Rows(NamedTuple):
    rows: list[Row]


def batch(num_rows: int, side: int = 32) -> Rows:
    return Rows([Row(place, 0, Geometry(side, side, 0, 0, 0, side, side)) for place in range(num_rows)])


def sizes(*batches: Rows, image_px: int = 32 * 32) -> list[list[int]]:
    made = list(turns(batches, image_px))
    assert [one for turn in made for one in turn] == list(batches)
    return [[len(one.rows) for one in turn] for turn in made]


def test_tiny_batches_share_a_turn_up_to_its_rows() -> None:
    assert sizes(*[batch(8)] * 33) == [[8] * 32, [8]]
    assert sizes(batch(100), batch(100), batch(57), batch(8)) == [[100, 100], [57, 8]]
    assert sizes(batch(MOST_ROWS + 1), batch(1)) == [[MOST_ROWS + 1], [1]]
    assert sizes(batch(8, side=4), batch(MOST_ROWS - 7, side=4), image_px=16) == [[8], [MOST_ROWS - 7]]


def test_large_crops_and_crops_of_large_images_do_not_gather() -> None:
    assert sizes(*[batch(8, side=224)] * 3) == [[8], [8], [8]]
    assert sizes(*[batch(8)] * 3, image_px=TURN_PX // 8) == [[8], [8], [8]]
    assert sizes(*[batch(8)] * 3, image_px=TURN_PX // 16) == [[8, 8], [8]]


def test_a_turn_has_one_size_of_input_and_one_without_rows_stands_alone() -> None:
    assert sizes(batch(8, 32), batch(8, 16), batch(8, 16)) == [[8], [8, 8]]
    assert sizes(batch(0)) == [[0]]
    assert sizes() == []


def stored(tmp_path: Path, name: str, augment: str) -> dict[str, bytes]:
    options = BuildOptions(
        runs_dir=tmp_path / "runs",
        caches_dir=tmp_path / name,
        teacher="tiny_classifier:make",
        data=f"npz:{tmp_path / 'data'}",
        views="crops:2",
        augment=augment,
        batch_size=3,
        shard_rows=8,
        taps=tuple(map(parse_tap, ("stage1=int8", "embedding=fp32", "logits"))),
    )
    root = build_cache(options).root
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("augment", ["pad=4,flip", "pad=4,flip,jitter=0.4x0.4x0.4x0.1,cutmix=1"])
def test_a_cache_is_byte_for_byte_that_of_one_batch_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: str
) -> None:
    draw.draw_npz(tmp_path / "data")
    decoded: list[int] = []
    honest = ImagePipeline._batch

    def counted(self, outputs, feed, number):  # type: ignore[no-untyped-def]
        decoded.append(len(feed.rows))
        return honest(self, outputs, feed, number)

    monkeypatch.setattr(ImagePipeline, "_batch", counted)
    together_ = stored(tmp_path, "together", augment)
    assert max(decoded) == 8  # a whole shard in one turn
    monkeypatch.setattr(together, "MOST_ROWS", 1)
    monkeypatch.setattr(targets, "MOST_ROWS", 1)
    monkeypatch.setattr(finish, "JOINED_BYTES", 0)
    decoded.clear()
    assert stored(tmp_path, "alone", augment) == together_ and max(decoded) == 3
