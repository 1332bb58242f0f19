"""The demo draws the same scenes everywhere, once, completely or not at all."""

import io
import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdcache.cache.errors import BadOption, Missing, Refused
from kdcache.cache.sources import demo
from kdcache.cache.sources.demo_scenes import CLASSES, draw_scene
from kdcache.cache.sources.table import open_source, splits


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "NUM_SCENES", {"train": 4, "val": 2, "test": 2})


def files_below(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_a_scene_depends_on_seed_split_and_index_alone() -> None:
    first = draw_scene(seed=0, split="train", index=3)
    draw_scene(seed=0, split="train", index=4)
    again = draw_scene(seed=0, split="train", index=3)
    np.testing.assert_array_equal(first.image_HW3, again.image_HW3)
    np.testing.assert_array_equal(first.label_HW, again.label_HW)
    for other in ({"seed": 1, "split": "train", "index": 3}, {"seed": 0, "split": "val", "index": 3}):
        assert not np.array_equal(draw_scene(**other).label_HW, first.label_HW)  # type: ignore[arg-type]


def test_scenes_show_every_class_at_many_sizes_of_image() -> None:
    scenes = [draw_scene(seed=0, split="train", index=i) for i in range(40)]
    share = np.bincount(np.concatenate([s.label_HW.reshape(-1) for s in scenes]), minlength=256)
    share = share / share.sum()
    assert share[0] > 0.3 and (share[1 : len(CLASSES)] > 0.04).all()
    assert share[len(CLASSES) : 255].sum() == 0 and share[255] < 0.01
    assert len({s.label_HW.shape for s in scenes}) > 30
    assert all(96 <= side <= 128 for s in scenes for side in s.label_HW.shape)


def test_colour_alone_does_not_tell_the_class() -> None:
    """Each pixel judged by the nearest mean colour, fitted on the very same pixels: far from the 0.79 that
    the teacher of the demo reaches."""
    scenes = [draw_scene(seed=0, split="train", index=i) for i in range(30)]
    pixels = np.concatenate([s.image_HW3.reshape(-1, 3) for s in scenes]).astype(np.float64)
    labels = np.concatenate([s.label_HW.reshape(-1) for s in scenes])
    means = np.stack([pixels[labels == c].mean(axis=0) for c in range(len(CLASSES))])
    guess = np.argmin([((pixels - mean) ** 2).sum(axis=1) for mean in means], axis=0)
    ious = [
        ((guess == c) & (labels == c)).sum() / ((guess == c) | (labels == c)).sum()
        for c in range(len(CLASSES))
    ]
    assert np.mean(ious) < 0.55


def test_demo_without_folder_draws_below_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path / "home"))
    assert open_source("demo", "val").root == tmp_path / "home/demo-data"
    monkeypatch.delenv("KDCACHE_HOME")
    monkeypatch.chdir(tmp_path)
    assert open_source("demo", "val").root == tmp_path / "demo-data"
    assert splits("demo") == ("train", "val", "test")


def test_asking_for_the_splits_draws_nothing(tmp_path: Path) -> None:
    assert splits(f"demo:{tmp_path}/new") == ("train", "val", "test")
    with pytest.raises(Missing, match="does not exist"):
        open_source(f"demo:{tmp_path}/new", "trian")
    assert list(tmp_path.iterdir()) == []


def test_every_drawn_sample_passes_the_check(tmp_path: Path) -> None:
    for split, count in demo.NUM_SCENES.items():
        source = open_source(f"demo:{tmp_path}/d", split)
        assert list(source.keys) == [f"{i:04d}" for i in range(count)]
        for i in range(count):
            scene = draw_scene(seed=demo.SEED, split=split, index=i)
            assert source.check(i) == scene.label_HW.shape
            label = np.asarray(Image.open(io.BytesIO(source.label_bytes(i))))
            np.testing.assert_array_equal(label, scene.label_HW)
            assert source.label_bytes(i) == source.label_path(i).read_bytes()


def test_the_drawing_is_part_of_the_identity_and_the_folder_is_not(tmp_path: Path) -> None:
    described = [open_source(f"demo:{tmp_path}/{name}", "train").describe() for name in ("a", "b")]
    assert described[0] == described[1]
    assert described[0]["drawing"] == demo.DRAWING and described[0]["seed"] == demo.SEED


def test_a_second_opening_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_source(f"demo:{tmp_path}/d", "train")
    before = files_below(tmp_path)
    monkeypatch.setattr(demo, "draw_scene", None)
    open_source(f"demo:{tmp_path}/d", "val")
    assert files_below(tmp_path) == before


def test_a_drawing_that_is_cut_short_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo, "draw_scene", interrupt)
        with pytest.raises(KeyboardInterrupt):
            open_source(f"demo:{tmp_path}/d", "train")
    assert list(tmp_path.iterdir()) == []
    assert open_source(f"demo:{tmp_path}/d", "train").check(0)


def test_what_a_killed_drawing_left_is_never_taken_for_the_demo(tmp_path: Path) -> None:
    (tmp_path / ".d.drawing-abc/train/images").mkdir(parents=True)
    assert len(open_source(f"demo:{tmp_path}/d", "train").keys) == 4


def test_several_processes_may_draw_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=demo.draw_all, args=(tmp_path / "d",)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    demo.draw_all(tmp_path / "alone")
    assert files_below(tmp_path / "d") == files_below(tmp_path / "alone")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alone", "d"]


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("draft")
    with pytest.raises(
        BadOption, match="the demo cannot be drawn there: the folder holds something else"
    ) as caught:
        open_source(f"demo:{tmp_path}", "train")
    assert caught.value.where == str(tmp_path) and "demo:DIR" in caught.value.fix
    assert files_below(tmp_path) == {"thesis.tex": b"draft"}


def test_an_empty_folder_is_drawn_into(tmp_path: Path) -> None:
    assert open_source(f"demo:{tmp_path}", "train").check(0)


def test_the_demo_of_another_version_is_not_mixed_with_this_one(tmp_path: Path) -> None:
    open_source(f"demo:{tmp_path}/d", "train")
    record = json.loads((tmp_path / "d/dataset.json").read_text())
    (tmp_path / "d/dataset.json").write_text(json.dumps(record | {"drawing": 0}))
    with pytest.raises(BadOption, match="drawn there by another version") as caught:
        open_source(f"demo:{tmp_path}/d", "train")
    assert "remove this one" in caught.value.fix


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="the demo cannot be drawn") as caught:
        open_source(f"demo:{tmp_path}/file/d", "train")
    assert caught.value.where == str(tmp_path / "file/d") and "5 MB" in caught.value.fix


def test_the_drawn_folder_also_opens_as_a_folder(tmp_path: Path) -> None:
    drawn = open_source(f"demo:{tmp_path}/d", "train")
    same = open_source(f"folder:{tmp_path}/d", "train")
    assert same.class_names == drawn.class_names and list(same.keys) == list(drawn.keys)
