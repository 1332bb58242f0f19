"""The end of a build: one more generation, where something changed, and the readers of before keep theirs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cache_scene import (
    Scene,
    add,
    counted_store,
    damage,
    images,
    living_rows,
    relabel,
    remove,
    repaint,
    tree,
)
from manifests import PASS, manifest
from resealed import reseal

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import parse_tap
from kdcache.cache.build.settle import complete_pairs
from kdcache.cache.look.verify import problems, unfinished
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.generation import list_generations, newest_generation, read_generation
from kdcache.cache.record.records import Coverage, file_name, list_records, read_record, record_name
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.local import LocalStore


class Killed(BaseException):
    """The builder died here."""


def test_a_build_that_changes_nothing_writes_no_generation(scene: Scene) -> None:
    files = tree(scene.cache)
    for options in ({}, {"update": True}, {"repair": True}, {"check": True}, {"views": "crops:1"}):
        report = build_cache(scene.options(**options))
        assert (report.generation, report.settled) == (1, False) and tree(scene.cache) == files


def test_every_change_is_one_generation_and_none_is_ever_changed(scene: Scene) -> None:
    steps = [
        lambda: add(scene, "aaa", 1),
        lambda: relabel(images(scene)[3]),
        lambda: remove(images(scene)[2]),
    ]
    kept: dict[str, str] = {}
    for number, step in enumerate(steps, 2):
        step()
        assert build_cache(scene.options(update=True)).generation == number
        now = {n: d for n, d in tree(scene.cache).items() if n.startswith("generations/")}
        assert {n: now[n] for n in kept} == kept and len(now) == number
        kept = now
    assert build_cache(scene.options(taps=(parse_tap("stage1"),))).generation == 5
    assert list_generations(scene.cache) == [1, 2, 3, 4, 5]


def test_a_generation_says_what_is_complete(scene: Scene) -> None:
    build_cache(scene.options(views="crops:3+full"))
    build_cache(scene.options(taps=(parse_tap("stage1"),)))
    first, second, third = (read_generation(scene.cache, number) for number in (1, 2, 3))
    both = {(first, tap) for first in (0, 2, 3) for tap in ("logits", "stage4")}
    assert {tuple(pair) for pair in first.complete} == {(0, "logits"), (0, "stage4")}
    assert {tuple(pair) for pair in second.complete} == both
    assert {tuple(pair) for pair in third.complete} == both | {(first, "stage1") for first in (0, 2, 3)}


@pytest.mark.parametrize("block", [0, 1, 2])
@pytest.mark.parametrize("view", [0, 1, 2, 3])
def test_views_are_complete_when_every_one_of_them_is_there_for_every_block(block: int, view: int) -> None:
    """Of three crops and a whole image in blocks 0 and 1; block 2 is lost."""
    there = {ShardKey(b, v, PASS) for b in (0, 1) for v in range(4)} - {ShardKey(block, view, PASS)}
    pairs = complete_pairs(manifest(), Coverage(there, manifest().passes), [0, 1])
    broken = set() if block == 2 else {3 if view == 3 else 0}
    assert {pair.first for pair in pairs} == {0, 3} - broken
    assert {pair.target for pair in pairs} == {"stage4", "embedding"}


def says_what_the_folder_says(root: Path) -> None:
    """The newest generation against every file of the folder of records."""
    generation = newest_generation(root)
    assert generation is not None
    there = {key for key in list_records(root) if key.block in generation.block_numbers}
    coverage = Coverage({key for key in there if not key.of_samples}, generation.manifest.passes)
    assert [entry.shard for entry in generation.records] == list(coverage.keys())
    pairs = complete_pairs(generation.manifest, coverage, generation.block_numbers)
    assert generation.complete == frozenset(pairs)
    assert all(entry.seal == read_record(root, entry.shard)[1] for entry in generation.records)
    assert generation.record_files == {file_name(key) for key in generation.seals}


def test_what_counts_is_what_stands_in_the_folder_after_every_kind_of_build(scene: Scene) -> None:
    def loses_a_block() -> None:
        damage(scene.cache / "samples" / "00001.tar")
        repaint(images(scene)[4], 5)

    steps: list[tuple[Callable[[], object], dict[str, object]]] = [
        (lambda: add(scene, "aaa", 1), {}),
        (lambda: None, {"views": "crops:3+full"}),
        (lambda: relabel(images(scene)[3]), {"update": True}),
        (lambda: add(scene, "zzz", 2), {"taps": (parse_tap("stage1"),)}),
        (loses_a_block, {"repair": True, "update": True}),
        (lambda: add(scene, "mmm", 3), {}),
    ]
    for number, (change, options) in enumerate(steps, 2):
        change()
        assert build_cache(scene.options(**options)).generation == number
        says_what_the_folder_says(scene.cache)


def test_a_record_that_goes_while_a_build_runs_is_not_said_to_count(scene: Scene) -> None:
    add(scene, "aaa", 1)
    gone = next(key for key in sorted(list_records(scene.cache)) if (key.block, key.view) == (1, 0))

    def at(operation: int, moment: str) -> None:
        (scene.cache / record_name(gone)).unlink(missing_ok=True)

    with counted_store(at):
        build_cache(scene.options())
    generation = newest_generation(scene.cache)
    assert generation is not None and gone not in generation.seals
    assert not list(problems(scene.cache)) and not generation.complete
    says_what_the_folder_says(scene.cache)


def test_readers_of_an_older_generation_read_on_what_they_read(scene: Scene) -> None:
    before = living_rows(scene.cache)
    reader = open_cache(scene.cache)
    add(scene, "aaa", 1)
    relabel(images(scene)[3])
    remove(images(scene)[2])
    build_cache(scene.options(update=True))
    assert reader.generation.number == 1 and reader.living.tolist() == list(range(7))
    truths = [reader.truth(index).tobytes() for index in range(7)]
    assert truths == [open_cache(scene.cache, generation=1).truth(index).tobytes() for index in range(7)]
    assert living_rows(scene.cache) != before


def test_a_builder_that_dies_before_its_last_operation_leaves_the_old_generation_whole(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, honest = living_rows(scene.cache), LocalStore.create
    add(scene, "aaa", 1)

    def create(self: LocalStore, name: str, content: bytes) -> object:
        if name.startswith("generations/"):
            raise Killed
        return honest(self, name, content)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(LocalStore, "create", create)
        build_cache(scene.options())
    assert living_rows(scene.cache) == before and len(unfinished(scene.cache)) == 3
    assert build_cache(scene.options()).shards == 0, "everything stood, but for the word that it counts"
    assert "aaa" in living_rows(scene.cache)


def test_targets_of_other_samples_never_come_to_count(scene: Scene) -> None:
    """An unfinished shard whose record names other samples than those that the cache holds."""
    add(scene, "aaa", 1)

    def at(operation: int, moment: str) -> None:
        if len(list_records(scene.cache)) == 11:
            raise Killed

    with counted_store(at), pytest.raises(Killed):
        build_cache(scene.options())
    (record,) = (k for k in list_records(scene.cache) if k.block == 3 and not k.of_samples)
    before = (scene.cache / record_name(record)).read_bytes()
    reseal(scene.cache / record_name(record), lambda plain: plain.update(samples="x3:" + "0" * 32))
    build_cache(scene.options())
    assert (scene.cache / record_name(record)).read_bytes() == before, "it was made again"
