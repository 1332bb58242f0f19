"""`build --keep pixels`: pixels and label maps as targets of their own, added without a forward, cared for by
records, verify, repair and compact."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aligned_cache import INVALID, NUM_INDICES, build_aligned_cache, draw_lossless_folder
from aligned_classes import build_class_cache, draw_classes

from kdcache.cache.build.build import BuildEvents, BuildReport, build_cache
from kdcache.cache.build.compact import compact
from kdcache.cache.build.options import BuildOptions
from kdcache.cache.build.predict import Prediction
from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.images.feed import pixel_digests
from kdcache.cache.look.verify import problems
from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.record.command import repeat_words
from kdcache.cache.record.manifest import LABELS, PIXELS, Manifest, manifest_from, plain_manifest

LIVING = sorted(set(range(NUM_INDICES)) - set(INVALID))


def grow(cache: Cache, **options: Any) -> tuple[BuildReport, list[Prediction]]:
    """Build once more, by default with pixels; and what was predicted."""
    home, said = cache.root.parent, []
    report = build_cache(
        BuildOptions(
            **{"runs_dir": home, "caches_dir": home, "cache": cache.root, "keep": "pixels"}
            | {"skip_bad": True, "batch_size": 2}
            | options
        ),
        BuildEvents(planned=lambda plan, prediction, assignment: said.append(prediction)),
    )
    return report, said


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A teacher that answers nobody."""

    def refuse(*given: object, **options: object) -> None:
        raise AssertionError("the teacher was asked")

    with monkeypatch.context() as patch:
        patch.setattr(Network, "forward", refuse)
        yield


@pytest.fixture
def maps(tmp_path: Path) -> Cache:
    return build_aligned_cache(draw_lossless_folder(tmp_path / "data"), "zarr", "crops:2")


def bytes_of(cache: Cache) -> dict[str, bytes]:
    return {
        path.relative_to(cache.root).as_posix(): path.read_bytes()
        for path in sorted(cache.root.rglob("*"))
        if path.is_file() and "generations" not in path.parts
    }


def test_a_cache_that_is_there_gets_its_pixels_without_a_forward(maps: Cache, silent: None) -> None:
    before = bytes_of(maps)
    report, (said,) = grow(maps)
    assert (said.rows, said.kept_rows, report.rows) == (0, 2 * len(LIVING), 2 * len(LIVING))
    grown = open_cache(maps.root)
    assert grown.manifest.tap_names == maps.manifest.tap_names  # a loss is offered no pixels
    assert grown.manifest.kept_names == (PIXELS, LABELS)
    kept = {name: content for name, content in bytes_of(grown).items() if name in before}
    assert {name for name in kept if kept[name] != before[name]} <= {"manifest.json"}
    for index in LIVING:
        for view in range(2):
            pixels = grown.parts(PIXELS, index, view)["values"]
            assert pixel_digests_of(pixels) == grown.pixel_digest(index, view)
            assert grown.parts(LABELS, index, view)["values"].shape == (*pixels.shape[:2], 1)
    again, _ = grow(maps)
    assert (again.shards, again.settled) == (0, False)


def pixel_digests_of(image_HWC: np.ndarray) -> int:
    import torch

    return int(pixel_digests(torch.from_numpy(image_HWC.copy())[None])[0])


def test_what_is_predicted_is_what_is_written(maps: Cache) -> None:
    before = sum(map(len, bytes_of(maps).values()))
    _, (said,) = grow(maps)
    objects = {n: c for n, c in bytes_of(maps).items() if "kept." in n}
    assert objects and said.target_bytes >= sum(map(len, objects.values()))
    assert said.target_bytes <= sum(map(len, bytes_of(maps).values())) - before + 4096


def test_a_new_cache_may_keep_pixels_from_the_start_and_further_views_have_them(tmp_path: Path) -> None:
    cache = build_class_cache(draw_classes(tmp_path / "data"), "zarr", "pad=4,flip", keep="pixels")
    assert cache.manifest.kept_names == (PIXELS,)  # a class is no map
    assert set(cache.complete_views([PIXELS])) == set(cache.manifest.views)
    grow(cache, keep=None, views="crops:5")
    grown = open_cache(cache.root)
    assert sum(views.count for views in grown.complete_views([PIXELS, "logits"])) == 5


def test_damage_is_found_and_put_back_byte_for_byte_without_a_forward(maps: Cache, silent: None) -> None:
    grow(maps)
    whole = bytes_of(maps)
    victim = next(name for name in whole if "kept.labels" in name and whole[name].count(b"\x01") > 9)
    (maps.root / victim).write_bytes(whole[victim][:-9] + b"123456789")
    assert any(victim in problem.text for problem in problems(maps.root))
    grow(maps, repair=True, keep=None)
    assert bytes_of(maps) == whole and not list(problems(maps.root))


def test_a_compacted_copy_keeps_them_and_can_be_repaired(maps: Cache, silent: None) -> None:
    grow(maps)
    old = open_cache(maps.root)
    copy = open_cache(compact(old.root, old.root.parent / "copy").root)
    assert copy.manifest.kept_names == (PIXELS, LABELS)
    for new, index in enumerate(LIVING):
        for name in (PIXELS, LABELS):
            one, other = (c.parts(name, i, 1)["values"] for c, i in ((old, index), (copy, new)))
            assert np.array_equal(one, other)
    together = [names for names in copy.manifest.passes.values() if PIXELS in names]
    assert together == [tuple(sorted((PIXELS, LABELS)))]  # apart from the answers: made again without them


def test_other_pixels_than_the_teacher_saw_are_not_kept(maps: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another decoder by now: what would be kept is not what the targets answer to."""
    honest = pixel_digests
    monkeypatch.setattr("kdcache.cache.build.stages.keep.pixel_digests", lambda images: honest(images) ^ 1)
    with pytest.raises(BadCache, match="makes other pixels than the teacher saw before"):
        grow(maps)
    assert PIXELS not in {name for names in open_cache(maps.root).manifest.passes.values() for name in names}


def test_the_command_that_makes_the_cache_again_says_that_it_keeps_pixels(maps: Cache) -> None:
    assert "--keep" not in repeat_words(maps.manifest)[0]
    grow(maps)
    words = repeat_words(open_cache(maps.root).manifest)[0]
    assert words[words.index("--keep") + 1] == "pixels"


def test_a_manifest_without_kept_pixels_is_written_as_before_and_a_false_one_is_refused(maps: Cache) -> None:
    plain = plain_manifest(maps.manifest)
    assert "kept" not in plain and manifest_from(plain).kept == ()
    grow(maps)
    plain = plain_manifest(open_cache(maps.root).manifest)
    assert isinstance(manifest_from(plain), Manifest)
    for changes in ({"channels": 4}, {"name": "other"}, {"codec": "int8"}, {"stride": 2}):
        with pytest.raises(ValueError, match="kept of the views"):
            manifest_from(plain | {"kept": [plain["kept"][0] | changes]})


def test_no_tap_can_be_stored_as_pixels(maps: Cache) -> None:
    from kdcache.cache.build.options import parse_tap

    with pytest.raises(BadOption):
        parse_tap("logits=raw uint8")
