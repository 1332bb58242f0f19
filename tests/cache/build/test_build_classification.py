"""A cache of classification: what it holds, how it grows, and what happens to it."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import class_data as draw
import numpy as np
import pytest
import torch
from PIL import Image
from resealed import reseal

from kdcache.cache.build.build import BuildEvents, BuildReport, build_cache
from kdcache.cache.build.options import BuildOptions, TapRequest, default_requests, parse_tap
from kdcache.cache.build.samples.survey import Survey
from kdcache.cache.errors import BadCache, BadOption, BadSample, KdError
from kdcache.cache.look.peek import peek
from kdcache.cache.look.verify import damaged_shards, deep_check, problems
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.classifier import CLASSIFIER_FILE
from kdcache.cache.sources.table import open_source
from kdcache.cache.spec import Need, Task
from kdcache.cache.tasks.classification import top_lines
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION

TEACHER = "tiny_classifier:make"
TAPS = ("stage1", "embedding=fp32", "logits")


def options(tmp_path: Path, **changes: object) -> BuildOptions:
    base = BuildOptions(
        runs_dir=tmp_path / "runs",
        caches_dir=tmp_path / "caches",
        teacher=TEACHER,
        data=f"npz:{tmp_path / 'data'}",
        views="crops:2",
        batch_size=5,
        shard_rows=8,
    )
    return replace(base, **changes)


@pytest.fixture(scope="module")
def first_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("built")
    draw.draw_npz(home / "data")
    build(home, taps=tuple(map(parse_tap, TAPS)))
    return home


@pytest.fixture
def built(first_build: Path, tmp_path: Path) -> Path:
    """A finished cache to harm or to grow; its data and caches are below `tmp_path`."""
    shutil.copytree(first_build, tmp_path, dirs_exist_ok=True)
    return next((tmp_path / "caches").iterdir())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return draw.draw_npz(tmp_path / "data")


def build(tmp_path: Path, **changes: object) -> BuildReport:
    return build_cache(options(tmp_path, **changes))


def teacher(tmp_path: Path) -> torch.nn.Module:
    return resolve_teacher(TEACHER, tmp_path, task=CLASSIFICATION, num_classes=3)[0]


def test_the_cache_holds_the_very_samples_and_their_classes(tmp_path: Path, built: Path) -> None:
    cache = open_cache(built)
    source = open_source(f"npz:{tmp_path / 'data'}", "train")
    assert cache.task == CLASSIFICATION and cache.generation.num_living == len(source.keys) == 18
    assert cache.column("classes").tolist() == [*draw.classes(20, 3)[:18].tolist(), *[-1] * 6]
    for index, wanted in enumerate(draw.pixels(20, (32, 32, 3))[:18]):
        assert cache.key(index) == source.keys[index] and cache.size(index) == (32, 32)
        with Image.open(io.BytesIO(cache.image(index).tobytes())) as image:
            np.testing.assert_array_equal(np.asarray(image), wanted)
        truth = cache.truth(index)
        assert truth.dtype == np.int64 and truth.shape == (1,)
        assert truth[0] == cache.column("classes")[index]


def test_nobody_has_to_name_targets_or_recipe(tmp_path: Path, data: Path) -> None:
    manifest = build(tmp_path, views=None).manifest
    assert manifest.tap_names == ("embedding", "logits") and manifest.num_views == 8
    assert [t.codec for t in manifest.taps] == ["fp16", "fp16"]
    assert [v.recipe.text for v in manifest.views] == ["pad=4,flip"] and manifest.crop == (32, 32)
    assert default_requests(SEGMENTATION, ("stage4", "logits")) == (
        TapRequest("stage4"),
        TapRequest("logits"),
    )


def test_stored_targets_are_the_teachers_answer_to_the_views(tmp_path: Path, built: Path) -> None:
    errors = deep_check(built, teacher(tmp_path), num_rows=18)
    assert [f.target for f in errors] == ["stage1", "embedding", "logits"]
    assert all(f.rows == 18 and f.max_abs <= f.bound * 1.001 + 1e-6 for f in errors)


def test_other_recipes_than_the_sources_own_can_be_asked_for(tmp_path: Path, data: Path) -> None:
    other = build(tmp_path, augment="rrc=0.5,jitter=0.4,mixup=0.2").root
    assert open_cache(other).manifest.views[0].recipe.mixes
    assert all(f.max_abs <= f.bound * 1.001 for f in deep_check(other, teacher(tmp_path), num_rows=6))
    with pytest.raises(KdError, match="scale belongs to segmentation"):
        build(tmp_path, caches_dir=tmp_path / "third", augment="scale=0.5x2")


def test_a_loss_is_asked_for_what_it_reads_on_this_task(tmp_path: Path, data: Path) -> None:
    asked: list[Task] = []

    def needs(task: Task) -> tuple[Need, ...]:
        asked.append(task)
        return (Need(tap="stage1"), Need(tap="logits"))

    manifest = build(tmp_path, needs_of=needs, taps=(parse_tap("logits=fp32"),)).manifest
    assert asked == [CLASSIFICATION]
    assert [(t.name, t.codec) for t in manifest.taps] == [("logits", "fp32"), ("stage1", "int8")]


def test_a_need_of_an_ensemble_is_one_tap_of_each_member() -> None:
    taps = ("a.stage1", "a.logits", "b.stage1", "b.logits")
    opts = BuildOptions(runs_dir=Path(), caches_dir=Path(), teacher="a,b", taps=(parse_tap("logits=fp32"),))
    assert [(r.tap, r.codec) for r in opts.resolved(CLASSIFICATION, taps).requests()] == [
        ("a.logits", "fp32"), ("b.logits", "fp32")]  # fmt: skip
    assert [r.tap for r in default_requests(CLASSIFICATION, taps)] == ["a.logits", "b.logits"]
    with_mean = (*taps, "logits")
    assert [r.tap for r in opts.resolved(CLASSIFICATION, with_mean).requests()] == ["logits"]
    assert [r.tap for r in default_requests(CLASSIFICATION, with_mean)] == ["logits"]


def test_the_second_build_writes_nothing_even_when_the_file_was_touched(tmp_path: Path, built: Path) -> None:
    (tmp_path / "data/small.npz").touch()
    assert build(tmp_path).rows == 0
    assert build(tmp_path, views="crops:3").rows == 18  # grown by one view


def test_one_changed_row_of_the_array_is_named(tmp_path: Path, built: Path) -> None:
    changed = draw.pixels(20, (32, 32, 3))
    changed[9, 5, 5] ^= 1
    draw.draw_npz(tmp_path / "data", x_train=changed)
    surveys: list[Survey] = []
    events = BuildEvents(surveyed=surveys.append)
    assert build_cache(options(tmp_path), events).rows == 0 and surveys[0].images == ("train/00009",)
    assert build_cache(options(tmp_path, update=True), events).rows == 2, "it alone, under two views"


def test_a_bad_image_is_skipped_and_has_no_class(tmp_path: Path) -> None:
    root = draw.draw_imagefolder(tmp_path / "photos")
    (root / "train/cat/004.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(BadSample, match="'cat/004' cannot be read"):
        build(tmp_path, data=f"imagefolder:{root}")
    cache = open_cache(build(tmp_path, data=f"imagefolder:{root}", skip_bad=True).root)
    assert cache.generation.retired.tolist() == [2] and cache.generation.num_living == 19
    assert cache.column("classes")[:20].tolist() == [0, 0, -1] + [0] * 7 + [1] * 10
    with pytest.raises(BadSample, match="'cat/004' is marked invalid"):
        cache.truth(2)
    assert cache.manifest.class_names == ("cat", "dog")


def test_the_teachers_last_layer_is_kept(tmp_path: Path, built: Path) -> None:
    stored = open_cache(built).classifier()
    assert stored is not None and stored.dtype == torch.float32
    torch.testing.assert_close(stored, teacher(tmp_path).model.head.weight.detach(), rtol=0, atol=0)


@pytest.mark.parametrize("harm", ["flip", "remove"])
def test_a_damaged_last_layer_is_found_refused_and_written_anew(
    tmp_path: Path, built: Path, harm: str
) -> None:
    root, path = built, built / CLASSIFIER_FILE
    whole = path.read_bytes()
    if harm == "flip":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    else:
        path.unlink()
    assert [(p.title, CLASSIFIER_FILE in p.text) for p in problems(root)] == [("classifier", True)]
    with pytest.raises(BadCache, match="classifier.safetensors' (differs|is missing)") as caught:
        open_cache(root).classifier()
    assert "kdcache build --repair" in caught.value.fix and caught.value.where == str(path)
    assert damaged_shards(root, open_cache(root).generation) == []
    assert (
        build(tmp_path, repair=True).rows == 0 and list(problems(root)) == [] and path.read_bytes() == whole
    )


def test_samples_of_another_task_than_the_manifest_says_are_refused(built: Path) -> None:
    for path in (built / "manifest.json", built / "generations" / "00001.json"):
        reseal(path, lambda plain: plain.get("manifest", plain)["data"].update(task="segmentation"))
    with pytest.raises(BadCache, match="not of segmentation, which the manifest claims"):
        open_cache(built).truth(0)


def test_peek_writes_the_classes_and_the_teachers_best(tmp_path: Path, data: Path) -> None:
    taps = (parse_tap("stage1"), parse_tap("logits"))
    cache = open_cache(build(tmp_path, augment="flip,cutmix=1", taps=taps).root)
    titles = peek(cache, "train/00003", 1, tmp_path / "out.png")
    assert titles == ["image", "label", "stage1 8x8x5", "teacher"]
    with Image.open(tmp_path / "out.png") as sheet:
        assert sheet.width % 4 == 0 and sheet.width // 4 >= 320  # four panels of one width
    assert top_lines(np.log([0.25, 0.5, 0.25]), ("a", "b", "c")) == ["50.0% b", "25.0% a", "25.0% c"]


def test_teachers_side_by_side_keep_targets_of_each_or_their_mean(tmp_path: Path, data: Path) -> None:
    several = f"{TEACHER},tiny_classifier:make_other"
    each = open_cache(build(tmp_path, teacher=several).root)
    mean = open_cache(build(tmp_path, teacher=several, mean=True, taps=(parse_tap("logits"),)).root)
    names = each.manifest.tap_names
    assert len(names) == 4 and mean.manifest.tap_names == ("logits",) and each.classifier() is None
    members = [n for n in names if n.endswith(".logits")]
    values = [each.parts(name, 3, 1)["values"].astype(np.float32) for name in members]
    assert abs(values[0] - values[1]).max() > 0.01
    np.testing.assert_allclose(mean.parts("logits", 3, 1)["values"], sum(values) / 2, atol=2e-3)
    assert mean.root != each.root
    again = build(tmp_path, teacher=several, views="crops:3", data=None, cache=mean.root)
    assert again.rows == 18 and again.root == mean.root


def test_no_data_and_no_run_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="no data was named") as caught:
        build(tmp_path, data=None)
    assert "--data NAME:DIR" in caught.value.fix
