"""What a cache owes to --batch-size and --threads: nothing but the rounding of the teacher's arithmetic."""

import re
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from class_data import draw_imagefolder
from tiny_folder import draw_folder

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.images.feed import pixel_digests
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.reader.rows import pixel_feed
from kdcache.cache.record.records import read_targets_record, record_name

SHARD_ROWS = 5
AT_A_TIME = ((1, 1), (3, 2))  # batch size, threads of the image pipeline
LARGE = 64  # a batch size that no shard fills
ROUNDING = 1e-5  # of the largest number: sums of a convolution in another order


class Kind(NamedTuple):
    """One kind of data, and views with everything that they can draw."""

    data: str
    views: str
    augment: str | None
    convolving: str  # a teacher of this task with convolutions
    taps: tuple[str, ...]


KINDS = {
    "segmentation": Kind("folder", "crops:1+full", None, "tiny_teacher:make", ("stage1=fp32", "stage4=int8")),
    "classification": Kind(
        "imagefolder", "crops:2", "rrc=0.3,flip,jitter=0.4x0.4x0.4x0.1,mixup=0.4,erase=0.5",
        "tiny_classifier:make", ("stage1=int8", "logits=fp32"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, kind: Kind) -> Path:
    root = tmp_path_factory.mktemp(kind.data) / "data"
    return draw_folder(root, count=7) if kind.data == "folder" else draw_imagefolder(root)


def built(
    folder: Path, kind: Kind, teacher: str, taps: tuple[str, ...], batch_size: int, threads: int
) -> Cache:
    report = build_cache(
        BuildOptions(
            runs_dir=folder.parent / "runs",
            caches_dir=folder.parent / f"{teacher.replace(':', '-')}-{batch_size}-{threads}",
            teacher=teacher,
            data=f"{kind.data}:{folder}",
            views=kind.views,
            augment=kind.augment,
            crop=(24, 32),
            taps=tuple(parse_tap(tap) for tap in taps),
            batch_size=batch_size,
            threads=threads,
            shard_rows=SHARD_ROWS,
        )
    )
    return open_cache(report.root)


@pytest.fixture(scope="module")
def convolved(folder: Path, kind: Kind) -> dict[int, Cache]:
    """Caches of a teacher with convolutions, by batch size."""
    return {
        size: built(folder, kind, kind.convolving, kind.taps, size, threads)
        for size, threads in (*AT_A_TIME, (LARGE, 1))
    }


def files_of(cache: Cache) -> dict[str, bytes]:
    """Every file; of the manifest and its copies without the batch size that they keep, and their seals."""
    paths = [path for path in sorted(cache.root.rglob("*")) if path.is_file() and path.name != "build.lock"]
    files = {path.relative_to(cache.root).as_posix(): path.read_bytes() for path in paths}
    return {
        name: re.sub(rb'"batch_size": ?\d+|"seal": ?"[^"]*"', b"", content)
        if name.endswith(".json")
        else content
        for name, content in files.items()
    }


def test_pixels_rows_and_files_are_the_same_bytes_for_any_batch_size_and_threads(
    folder: Path, kind: Kind
) -> None:
    """The teacher answers its pixels, so that every file of a cache follows from them."""
    teacher, taps = "exact_teachers:make_reader", ("pixels=fp32", "again=int8")
    whole = files_of(built(folder, kind, teacher, taps, LARGE, 1))
    assert any(name.startswith("targets.zarr/") for name in whole)
    for batch_size, threads in AT_A_TIME:
        assert files_of(built(folder, kind, teacher, taps, batch_size, threads)) == whole


def test_all_but_the_targets_of_a_convolving_teacher_are_the_same_for_any_batch_size(
    convolved: dict[int, Cache],
) -> None:
    def claims(cache: Cache) -> dict[str, object]:
        files: dict[str, object] = {
            name: content
            for name, content in files_of(cache).items()
            if not name.startswith(("targets.zarr/", "records/", "generations/"))
        }
        for key in cache.coverage.keys():
            record, _ = read_targets_record(cache.root, key)
            files[record_name(key)] = msgspec.structs.replace(record, objects=())  # digests of targets
        return files

    whole = claims(convolved[LARGE])
    assert all(claims(cache) == whole for cache in convolved.values())


def test_targets_of_a_convolving_teacher_differ_by_its_rounding_and_no_more(
    convolved: dict[int, Cache],
) -> None:
    large = convolved[LARGE]
    for cache in (convolved[size] for size, _ in AT_A_TIME):
        for tap in large.manifest.taps:
            for view in range(large.manifest.num_views):
                for index in large.living.tolist():
                    assert_close(cache, large, tap.name, index, view)


def assert_close(cache: Cache, large: Cache, tap: str, index: int, view: int) -> None:
    """A number may move by rounding; where it stood between two levels of int8, by one level."""
    ours, theirs = cache.parts(tap, index, view), large.parts(tap, index, view)
    for part, wanted in theirs.items():
        if wanted.dtype == np.uint8:
            assert np.abs(ours[part].astype(int) - wanted.astype(int)).max() <= 1
            assert (ours[part] != wanted).mean() < 0.01
        else:
            np.testing.assert_allclose(ours[part], wanted, rtol=0, atol=ROUNDING * np.abs(wanted).max())


def test_the_digest_that_is_kept_of_a_row_is_that_of_its_pixels_alone(convolved: dict[int, Cache]) -> None:
    """Of every row, however many went through the teacher beside it."""
    cache = convolved[3]
    assert len(list(cache.stored_rows())) == len(cache.living) * cache.manifest.num_views
    for index, view in cache.stored_rows():
        feeds = [pixel_feed(cache, [cache.row(index, view)]), None]
        pipeline = ImagePipeline(feeds.__getitem__, batch_size=1, with_maps=False, mixes=cache.mixes)
        (alone,) = pipeline.run()
        pipeline.close()
        assert pixel_digests(alone.images_BHWC).tolist() == [cache.pixel_digest(index, view)]
