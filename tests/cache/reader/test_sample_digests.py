"""An image that changed on disk is never handed out: every tar and index is checked when first touched."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from class_data import draw_imagefolder
from safetensors.numpy import save
from tiny_folder import draw_folder

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.errors import BadCache
from kdcache.cache.look.verify import damaged_shards, problems
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.reader.samples import open_generation
from kdcache.cache.stores.columns import read_columns
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.fresh import FreshStream
from kdcache.trainer.stream.stored import StoredStream

TASKS = ("segmentation", "classification")
TAR, INDEX = "samples/00001.tar", "samples/00001.safetensors"
IN_THE_TAR = 6  # a sample of the second block


def options(home: Path, task: str) -> BuildOptions:
    segments = task == "segmentation"
    return BuildOptions(
        runs_dir=home / "runs",
        caches_dir=home / "caches",
        teacher="tiny_teacher:make" if segments else "tiny_classifier:make",
        data=f"{'folder' if segments else 'imagefolder'}:{home / 'data'}",
        views="crops:1",
        crop=(24, 24),
        taps=(parse_tap("logits"),),
        shard_rows=5,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A home with one cache for each task; tests harm a copy."""
    homes = {task: tmp_path_factory.mktemp(task) for task in TASKS}
    draw_folder(homes["segmentation"] / "data", count=10)
    draw_imagefolder(homes["classification"] / "data")
    for task, home in homes.items():
        build_cache(options(home, task))
    return homes


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def root(finished: dict[str, Path], task: str, tmp_path: Path) -> Path:
    shutil.copytree(finished[task], tmp_path, dirs_exist_ok=True)
    return next((tmp_path / "caches").iterdir())


def change_one_byte_of_an_image(root: Path) -> None:
    """Inside its pixels: the tar keeps its size, and the image still decodes to something."""
    cache = open_cache(root, check_digests=False)
    image = cache.image(IN_THE_TAR).tobytes()
    tar = bytearray((root / TAR).read_bytes())
    tar[tar.index(image) + len(image) * 3 // 4] ^= 1
    (root / TAR).write_bytes(tar)


def test_a_changed_image_is_refused_with_its_tar_and_the_command_that_mends_it(root: Path) -> None:
    change_one_byte_of_an_image(root)
    cache = open_cache(root)
    for _ in range(2):  # the second time too
        with pytest.raises(BadCache, match=f"'{TAR}' differs .stored x3:[0-9a-f]{{32}}, found x3:") as caught:
            cache.image(IN_THE_TAR)
        assert caught.value.where == f"{root}/{TAR}" and "kdcache build --repair" in caught.value.fix
    cache.image(0)  # of another tar


@pytest.mark.parametrize("kind", ["stored", "fresh"])
def test_no_batch_of_a_run_shows_a_changed_image(root: Path, kind: str) -> None:
    change_one_byte_of_an_image(root)
    cache, layout = open_cache(root), BatchLayout(seed=0, global_batch=open_cache(root).num_samples)
    stream = (
        StoredStream(cache, needs=(), layout=layout)
        if kind == "stored"
        else FreshStream(cache, layout=layout, crop=(24, 24))
    )
    with pytest.raises(BadCache, match=f"'{TAR}' differs"):
        next(iter(stream.run()))


def test_a_changed_index_is_refused_before_a_key_or_a_label_is_read_from_it(root: Path, task: str) -> None:
    columns = {name: array.copy() for name, array in read_columns((root / INDEX).read_bytes()).items()}
    if task == "classification":
        columns["truth.classes"][1] = 1 - columns["truth.classes"][1]
    else:
        columns["labels"][[0, 1]] = columns["labels"][[1, 0]]
    (root / INDEX).write_bytes(save(columns))
    for read in (Cache.truth, Cache.key, Cache.image):
        with pytest.raises(BadCache, match=f"'{INDEX}' differs"):
            read(open_cache(root), IN_THE_TAR)


def test_a_changed_image_is_found_by_verify_and_mended_to_the_same_bytes(
    root: Path, task: str, tmp_path: Path
) -> None:
    whole = (root / TAR).read_bytes()
    change_one_byte_of_an_image(root)
    (problem,) = problems(root)
    assert problem.title == "shard 00001 (samples)" and f"'{TAR}' differs" in problem.text
    assert [key.block for key in damaged_shards(root, open_generation(root))] == [1]
    report = build_cache(replace(options(tmp_path, task), repair=True))
    assert report.rows == 0 and (root / TAR).read_bytes() == whole
