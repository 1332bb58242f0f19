"""The data beside the cache: what a build lists, what it leaves alone, what `--update` renews at once."""

import os
import shutil
from pathlib import Path

import pytest
from cache_scene import Scene, add, images, label_of, living_rows, relabel, remove, repaint, tree
from mixed_scene import MixedScene, partners

from kdcache.cache.build.build import BuildEvents, BuildReport, build_cache
from kdcache.cache.build.samples import survey as module
from kdcache.cache.build.samples.survey import Survey
from kdcache.cache.look.verify import pixel_check, problems
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.sources.table import open_source


def build(scene: Scene, **changes: object) -> tuple[BuildReport, Survey]:
    surveys: list[Survey] = []
    report = build_cache(scene.options(**changes), BuildEvents(surveyed=surveys.append))
    (survey,) = surveys
    return report, survey


def listed(survey: Survey) -> dict[str, tuple[str, ...]]:
    kinds = {"images": survey.images, "labels": survey.labels, "gone": survey.gone, "mixed": survey.mixed}
    return {kind: keys for kind, keys in kinds.items() if keys}


def nothing_to_do(report: BuildReport) -> bool:
    return (report.rows, report.shards, report.settled) == (0, 0, False)


def whole(scene: Scene) -> bool:
    """Every living row is read, and its pixels are those of its image."""
    living_rows(scene.cache)
    return not list(problems(scene.cache)) and not list(pixel_check(open_cache(scene.cache)))


def change_one_of_each(scene: Scene) -> dict[str, tuple[str, ...]]:
    repaint(images(scene)[1], 3)
    relabel(images(scene)[4])
    remove(images(scene)[6])
    return {"images": ("scene01",), "labels": ("scene04",), "gone": ("scene06",)}


def test_a_plain_build_lists_what_changed_or_is_gone_and_leaves_its_rows_as_they_are(scene: Scene) -> None:
    before, files = living_rows(scene.cache), tree(scene.cache)
    changes = change_one_of_each(scene)
    for _ in range(2):  # and a second one lists them again
        report, survey = build(scene)
        assert nothing_to_do(report) and listed(survey) == changes and not survey.renewed
        assert living_rows(scene.cache) == before and tree(scene.cache) == files


def test_a_plain_build_adds_what_is_new_beside_what_changed(scene: Scene) -> None:
    before = living_rows(scene.cache)
    changes = change_one_of_each(scene)
    add(scene, "aaa", 1)
    report, survey = build(scene)
    assert (report.rows, survey.wanted, listed(survey)) == (2, ("aaa",), changes)
    grown = living_rows(scene.cache)
    assert {name: grown[name] for name in before} == before
    assert {name.split()[0] for name in grown.keys() - before.keys()} == {"aaa"}
    report, survey = build(scene)
    assert nothing_to_do(report) and listed(survey) == changes


def test_update_retires_makes_again_and_settles_in_one_command(scene: Scene) -> None:
    changes = change_one_of_each(scene)
    add(scene, "aaa", 1)
    report, survey = build(scene, update=True)
    assert listed(survey) == changes and survey.renewed and report.settled
    report, survey = build(scene)
    assert nothing_to_do(report) and listed(survey) == {}
    cache = open_cache(scene.cache)
    assert cache.generation.number == 2 and cache.generation.retired.tolist() == [1, 4, 6] and whole(scene)


def test_what_is_made_again_equals_a_fresh_build(scene: Scene, tmp_path: Path) -> None:
    """To the bit where the batches are the same, and of one row they always are."""
    alone: dict[str, object] = {"batch_size": 1, "caches_dir": tmp_path / "alone"}
    root = build(scene, **alone)[0].root
    change_one_of_each(scene)
    add(scene, "aaa", 1)
    build(scene, update=True, **alone)
    fresh, _ = build(scene, batch_size=1, caches_dir=tmp_path / "fresh")
    assert living_rows(root) == living_rows(fresh.root)


def test_one_changed_image_costs_its_own_rows_and_no_others(scene: Scene) -> None:
    repaint(images(scene)[1], 3)
    report, _ = build(scene, update=True)
    assert report.rows == 2 and open_cache(scene.cache).num_blocks == 4


def test_a_deletion_settles(scene: Scene) -> None:
    before = living_rows(scene.cache)
    remove(images(scene)[2])
    assert listed(build(scene)[1]) == {"gone": ("scene02",)}
    report, _ = build(scene, update=True)
    assert (report.rows, report.shards, report.settled) == (0, 0, True)
    after = living_rows(scene.cache)
    assert {name.split()[0] for name in before.keys() - after.keys()} == {"scene02"}
    assert {name: before[name] for name in after} == after
    report, survey = build(scene)
    assert nothing_to_do(report) and listed(survey) == {}, "or it would be refused for ever"


def test_what_comes_back_lives_again(scene: Scene, tmp_path: Path) -> None:
    before = living_rows(scene.cache)
    image = images(scene)[2]
    kept = [shutil.copy2(path, tmp_path / path.name) for path in (image, label_of(image))]
    remove(image)
    build(scene, update=True)
    for path, to in zip(kept, (image, label_of(image)), strict=True):
        shutil.copy2(path, to)
    report, survey = build(scene)
    assert survey.wanted == ("scene02",) and report.settled
    assert living_rows(scene.cache) == before and whole(scene)


def test_an_image_and_its_label_that_both_changed_are_an_image_that_changed(scene: Scene) -> None:
    repaint(images(scene)[1], 3)
    relabel(images(scene)[1])
    assert listed(build(scene)[1]) == {"images": ("scene01",)}


def test_an_update_of_two_times_keeps_one_row_of_a_key(scene: Scene) -> None:
    for seed in (3, 4, 5):
        repaint(images(scene)[1], seed)
        build(scene, update=True)
    cache = open_cache(scene.cache)
    assert [cache.key(i) for i in cache.living].count("scene01") == 1
    assert cache.generation.num_living == 7 and len(cache.generation.retired) == 3 and whole(scene)


def test_files_of_the_same_size_and_time_are_not_read_again_unless_asked(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    honest = module.content_of
    monkeypatch.setattr(
        module, "content_of", lambda source, index: read.append(index) or honest(source, index)
    )
    build(scene)
    assert read == []
    images(scene)[3].touch()
    build(scene)
    assert read == [3], "it is only touched: its digests are as before"
    build(scene)
    assert read == [3], "and the new time was noted"
    build(scene, check=True)
    assert read == [3, *range(7)]


def test_a_change_that_keeps_size_and_time_is_found_by_check(scene: Scene) -> None:
    path = label_of(images(scene)[3])
    then, content = path.stat(), bytearray(path.read_bytes())
    relabel(images(scene)[3])
    changed = path.read_bytes()
    path.write_bytes(changed + bytes(max(0, len(content) - len(changed))))
    with path.open("r+b") as file:
        file.truncate(len(content))
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert path.stat().st_size == then.st_size and path.read_bytes() != bytes(content)
    assert listed(build(scene)[1]) == {}
    assert listed(build(scene, check=True)[1]) == {"labels": ("scene03",)}


def test_without_the_notes_of_times_every_file_is_read_and_none_has_changed(scene: Scene) -> None:
    shutil.rmtree(scene.cache / "stamps")
    report, survey = build(scene)
    assert nothing_to_do(report) and listed(survey) == {}
    assert len(list((scene.cache / "stamps").iterdir())) == 3, "and they are noted anew"


# ---- rows that show another sample


def test_a_row_that_shows_a_changed_sample_is_made_again(mixed: MixedScene) -> None:
    shown = partners(mixed.cache)
    changed = shown["cat/0", 0]
    mixed.draw(changed, 50)
    touched = {key for (key, _), partner in shown.items() if partner == changed} - {changed}
    assert listed(build(mixed)[1]) == {"images": (changed,)}
    _, survey = build(mixed, update=True)
    assert touched and set(survey.mixed) == touched
    cache = open_cache(mixed.cache)
    assert {cache.key(i) for i in cache.generation.retired.tolist()} == {changed, *touched}
    assert cache.generation.num_living == 7 and whole(mixed)
    assert nothing_to_do(build(mixed, update=True)[0])


def test_a_row_that_shows_a_deleted_sample_is_made_again_with_another(mixed: MixedScene) -> None:
    shown = partners(mixed.cache)
    gone = shown["cat/0", 0]
    mixed.image(gone).unlink()
    build(mixed, update=True)
    assert gone not in partners(mixed.cache).values() and whole(mixed)
    assert open_cache(mixed.cache).generation.num_living == 6


def test_rows_that_are_made_again_share_a_block_and_mix_with_one_another(mixed: MixedScene) -> None:
    before = partners(mixed.cache)
    mixed.draw("cat/1", 51)
    _, survey = build(mixed, update=True)
    cache = open_cache(mixed.cache)
    again = {cache.key(i) for i in cache.living.tolist() if i >= 9}
    assert again == {"cat/1", *survey.mixed}
    after = partners(mixed.cache)
    assert {after[key, view] for key in again for view in (0, 1)} <= again or len(again) == 1
    assert {k: v for k, v in after.items() if k[0] not in again} == {
        k: v for k, v in before.items() if k[0] not in again
    }


def test_a_lone_new_sample_takes_its_partner_from_the_block_before(mixed: MixedScene) -> None:
    """Also the last one of a fresh build, which is alone in its block."""
    assert {partners(mixed.cache)["dog/2", view] for view in (0, 1)} <= {"cat/3", "dog/0", "dog/1"}
    mixed.draw("dog/9", 52)
    build(mixed)
    assert {partners(mixed.cache)["dog/9", view] for view in (0, 1)} == {"dog/2"} and whole(mixed)


def test_rows_of_a_lost_block_are_dead_and_their_keys_want_others(scene: Scene) -> None:
    """Also for what an unfinished build recorded: a row that shows one of them must not be adopted."""
    source = open_source(f"folder:{scene.data}", "train")
    cache = open_cache(scene.cache)
    state = module.survey(cache, source, update=False, lost=[1])
    assert state.dead == {3, 4, 5} and state.wanted == ("scene03", "scene04", "scene05")
    assert module.survey(cache, source, update=False).dead == frozenset()
