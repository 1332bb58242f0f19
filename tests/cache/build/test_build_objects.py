"""A cache of objects: which images it holds, which views, and what a changed box costs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_detector
from aligned_boxes import CANVAS, NEEDS, TAPS, build_painted_cache, painted_images
from painted_objects import write_coco
from PIL import Image
from tiny_folder import draw_folder
from torch import Tensor

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.errors import BadCache, BadOption, BadSample
from kdcache.cache.look.peek import peek
from kdcache.cache.reader.cache import Cache
from kdcache.cache.record.command import build_words
from kdcache.cache.sources.coco import Coco
from kdcache.cache.views.draw import fit_view
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.run_source import open_run_source
from kdcache.trainer.stream.stored import StoredStream

EMPTY = ("train03", "train07")  # every fourth image has no object
LAYOUT = BatchLayout(seed=0, global_batch=2)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows that the teacher saw, batch by batch."""
    rows: list[int] = []
    forward = tiny_detector.TinyDetector.forward

    def counting(self: tiny_detector.TinyDetector, images_BCHW: Tensor) -> Tensor:
        rows.append(len(images_BCHW))
        return forward(self, images_BCHW)

    monkeypatch.setattr(tiny_detector.TinyDetector, "forward", counting)
    return rows


def built(folder: Path, **changes: object) -> Cache:
    options: dict[str, object] = {"views": None, "mirror": False, "augment": None, "keep_empty": False}
    return build_painted_cache(folder, "zarr", **(options | changes))


def keys(cache: Cache) -> list[str]:
    return [cache.key(index) for index in cache.living.tolist()]


def edit(folder: Path, change: Callable[[Any], object]) -> None:
    path = folder / "data" / "train.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def again(folder: Path, cache: Cache, **changes: object) -> Cache:
    """The same command with `--cache`, over the data as they lie there now."""
    build_cache(
        BuildOptions(
            runs_dir=folder / "runs",
            caches_dir=folder / "zarr",
            cache=cache.root,
            teacher="tiny_detector:make",
            **changes,  # type: ignore[arg-type]
        )  # fmt: skip
    )
    return Cache(cache.root)


def test_a_cache_that_nobody_describes_holds_whole_images_and_their_mirror_images(home: Path) -> None:
    cache = built(home)
    assert [(one.kind, one.count, one.crop) for one in cache.manifest.views] == [
        ("fit", 1, CANVAS),
        ("fit-mirror", 1, CANVAS),
    ]
    for index in cache.living.tolist():
        for view in (0, 1):
            size = cache.size(index)
            assert cache.geometry(index, view) == fit_view(*size, CANVAS, mirror=view == 1).geometry(*size)
    assert cache.manifest.identity["views"] == 2 and cache.manifest.identity["recipe"] == "fit=1x1,flip"
    assert [one.kind for one in built(home / "b", views="fit").manifest.views] == ["fit"]


def test_images_without_a_box_are_no_part_of_a_cache_unless_it_is_asked_for(home: Path) -> None:
    cache, kept = built(home), built(home / "b", keep_empty=True)
    assert keys(cache) == [key for key in keys(kept) if key not in EMPTY] and set(EMPTY) < set(keys(kept))
    numbers = [len(one.boxes_M4) for one in painted_images()]
    assert kept.column("objects")[kept.living].tolist() == numbers
    assert (cache.column("objects")[cache.living] > 0).all()


def test_training_leaves_empty_images_of_a_cache_out_unless_it_is_asked_for(home: Path) -> None:
    cache = built(home, keep_empty=True)
    visited = {}
    for keep in (False, True):
        stream = StoredStream(cache, needs=NEEDS, layout=LAYOUT, keep_empty=keep)
        visited[keep] = {row.sample for step in range(stream.num_samples) for row in stream.rows(step)}
        assert stream.num_samples == len(visited[keep])
    assert {cache.key(index) for index in visited[True] - visited[False]} == set(EMPTY)
    for keep in (False, True):
        options = TrainConfig(student="r18", run="r", cache=str(cache.root), keep_empty=keep)
        assert open_run_source(options, home, output_stride=None).num_samples == (8 if keep else 6)


def test_training_on_the_data_themselves_leaves_them_out_likewise(home: Path) -> None:
    write_coco(home, painted_images())
    for keep in (False, True):
        options = TrainConfig(student="r18", run="r", data=f"coco:{home}", keep_empty=keep, crop=CANVAS)
        run_source = open_run_source(options, home, output_stride=None)
        assert run_source.num_samples == (8 if keep else 6) and run_source.source is not None
    with pytest.raises(BadOption, match="both sides must be multiples of 32"):
        open_run_source(
            TrainConfig(student="r18", run="r", data=f"coco:{home}", crop=(90, 160)), home, output_stride=None
        )


def test_a_cache_that_keeps_them_goes_on_keeping_them(home: Path) -> None:
    cache = built(home, keep_empty=True)
    grown = again(home, cache, views="crops:2", update=True)
    assert keys(grown) == keys(cache) and grown.manifest.num_views == 4
    assert "--keep-empty" in build_words(grown.manifest)
    assert "--keep-empty" not in build_words(built(home / "b").manifest)


def test_a_cache_without_them_does_not_take_them_in(home: Path) -> None:
    cache = built(home)
    with pytest.raises(BadCache) as caught:
        again(home, cache, keep_empty=True)
    assert "empty" in caught.value.what and "kept" in caught.value.what
    assert "cache of its own" in caught.value.fix


def test_a_mirror_is_added_to_whole_images(home: Path) -> None:
    cache = again(home, built(home, views="fit"), mirror=True)
    assert [one.kind for one in cache.manifest.views] == ["fit", "fit-mirror"]


def test_what_has_something_to_learn_in_every_sample_refuses_to_keep_empty_ones(home: Path) -> None:
    draw_folder(home / "data")
    with pytest.raises(BadOption) as caught:
        build_cache(
            BuildOptions(
                runs_dir=home / "runs",
                caches_dir=home / "c",
                teacher="tiny_teacher:make",
                data=f"folder:{home / 'data'}",
                keep_empty=True,
            )  # fmt: skip
        )
    assert caught.value.what == "--keep-empty: every sample of segmentation has something to learn"
    assert caught.value.fix == "leave --keep-empty out"
    with pytest.raises(BadOption, match="--keep-empty: every sample of segmentation"):
        open_run_source(
            TrainConfig(student="r18", run="r", data=f"folder:{home / 'data'}", keep_empty=True),
            home,
            output_stride=None,
        )


def test_a_canvas_that_no_level_divides_is_refused(home: Path) -> None:
    with pytest.raises(BadOption) as caught:
        built(home, crop=(100, 160))
    assert caught.value.where == "--crop 100,160" and caught.value.fix == "use --crop 128x160"


# ---- what changes --------------------------------------------------------------------------------------


def test_one_edited_box_appends_one_row_and_asks_the_teacher_nothing(home: Path, forwards: list[int]) -> None:
    cache = built(home)
    forwards.clear()
    edit(home, lambda raw: raw["annotations"][0].update(bbox=[1, 1, 20, 20], area=400))
    grown = again(home, cache, update=True)
    key = cache.key(0)
    index = grown.find(key)
    assert grown.truth(index)[0, :4].tolist() == [1, 1, 21, 21] and index >= cache.num_samples
    assert sum(forwards) <= 1, "a box moves no pixel"  # the trial of the network at the start
    assert sorted(keys(grown)) == sorted(keys(cache))
    for view in (0, 1):
        for need in NEEDS:
            old, new = cache.parts(need.tap, 0, view), grown.parts(need.tap, index, view)
            assert all(np.array_equal(old[part], new[part]) for part in old)


def test_a_json_that_is_written_anew_reads_no_image_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = built(home)
    edit(home, lambda raw: raw.update(info="a new date"))
    read: list[int] = []
    image_bytes = Coco.image_bytes
    monkeypatch.setattr(
        Coco, "image_bytes", lambda self, index: read.append(index) or image_bytes(self, index)
    )
    grown = again(home, cache, update=True)
    assert not read and grown.generation.number == cache.generation.number
    edit(home, lambda raw: raw["annotations"][-1].update(bbox=[1, 1, 9, 9]))
    again(home, cache, update=True)
    assert len(set(read)) == 1, "one box is of one image"


def test_a_bad_annotation_stops_a_build_or_is_skipped(home: Path) -> None:
    write_coco(home / "data", painted_images())
    edit(home, lambda raw: raw["annotations"][0].update(bbox=[5, 5, -1, 4]))
    options = {
        "runs_dir": home / "runs", "caches_dir": home / "c", "teacher": "tiny_detector:make", "crop": CANVAS,
        "data": f"coco:{home / 'data'}", "taps": tuple(parse_tap(tap) for tap in TAPS),
    }  # fmt: skip
    with pytest.raises(BadSample, match="annotation 100 of 'train00' is -1 wide and 4 high"):
        build_cache(BuildOptions(**options))  # type: ignore[arg-type]
    report = build_cache(BuildOptions(**options, skip_bad=True))  # type: ignore[arg-type]
    assert report.skipped == ("train00",) and "train00" not in keys(Cache(report.root))


def test_a_sample_is_drawn_with_its_boxes(home: Path) -> None:
    cache, out = built(home), home / "peek.png"
    titles = peek(cache, "train00", 1, out)
    assert titles[:2] == ["image", "label"]
    sheet = np.asarray(Image.open(out)).astype(int)
    image, label = sheet[18:, :318], sheet[18:, 320 : 320 + 318]
    assert image.shape == label.shape and 0.01 < (image != label).any(axis=2).mean() < 0.5
