"""Every kind of damage: a reader refuses it, `verify` names it, `build --repair` mends it, and verify is
silent."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cache_scene import (
    Rows,
    Scene,
    add,
    built_scene,
    damage,
    images,
    living_rows,
    relabel,
    remove,
    repaint,
    tree,
)
from mixed_scene import MixedScene, partners, stale
from resealed import reseal

from kdcache.cache.build.build import BuildReport, build_cache
from kdcache.cache.build.options import parse_tap
from kdcache.cache.errors import BadCache
from kdcache.cache.look.verify import pixel_check, problems
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.generation import LOST, list_generations


def repaired(scene: Scene, **changes: object) -> BuildReport:
    return build_cache(scene.options(repair=True, **changes))


def named(scene: Scene) -> str:
    """What verify says is not as it must be."""
    return "\n".join(f"{problem.title}: {problem.text}" for problem in problems(scene.cache))


def whole(scene: Scene) -> bool:
    living_rows(scene.cache)
    return named(scene) == "" and not list(pixel_check(open_cache(scene.cache)))


def every_file(scene: Scene) -> list[str]:
    """One of each kind."""
    root = scene.cache
    shard = next(p for p in (root / "targets.zarr").rglob("stage4/*/values/c/1/0/0/0/0") if p.is_file())
    arrays = sorted((root / "targets.zarr").rglob("stage4/*/values/zarr.json"))
    columns = next(iter(sorted((root / "views").iterdir())))
    targets = next(p for p in sorted((root / "records").iterdir()) if "samples" not in p.name)
    fixed = ("samples/00001.tar", "samples/00001.safetensors", "records/00001-samples.json")
    claims = ("generations/00001.json", "manifest.json", "targets.zarr/zarr.json")
    return [*fixed, *claims, *(str(p.relative_to(root)) for p in (shard, arrays[0], columns, targets))]


KINDS = range(10)  # of `every_file`


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize("harm", [damage, cut, Path.unlink])
@pytest.mark.parametrize("kind", KINDS)
def test_damage_of_any_file_is_named_mended_and_then_gone(
    scene: Scene, kind: int, harm: Callable[[Path], object]
) -> None:
    before, files, name = living_rows(scene.cache), tree(scene.cache), every_file(scene)[kind]
    if harm is Path.unlink and name in ("manifest.json", "generations/00001.json"):
        return  # then it is no cache, or one that no build has finished: see below
    harm(scene.cache / name)
    assert Path(name).name.split("-")[0].split(".")[0] in named(scene)
    repaired(scene)
    assert whole(scene) and living_rows(scene.cache) == before
    same = {n for n in files if tree(scene.cache).get(n) == files[n]}
    assert files.keys() - same <= {"generations/00001.json"}, "the same bytes under the same names"


def test_there_is_a_case_for_every_kind_of_file(scene: Scene) -> None:
    assert len(every_file(scene)) == len(KINDS)
    kinds = {name.split("/")[0] for name in every_file(scene)}
    ours = {name.split("/")[0] for name in tree(scene.cache)} - {"stamps"}  # a builder's note: no claim
    assert ours == kinds


def test_a_damaged_shard_costs_its_own_rows(scene: Scene) -> None:
    damage(next(p for p in (scene.cache / "targets.zarr").rglob("stage4/*/values/c/1/0/0/0/0")))
    report = repaired(scene)
    assert (report.rows, report.shards, report.generation, report.settled) == (3, 1, 1, False)


def test_damaged_samples_are_packed_again_without_the_teacher(scene: Scene) -> None:
    damage(scene.cache / "samples" / "00001.tar")
    report = repaired(scene)
    assert (report.rows, report.shards, report.settled) == (0, 1, False) and whole(scene)


@pytest.mark.parametrize("less", [{}, {"shard_rows": None}, {"taps": (parse_tap("logits"),)}])
def test_a_lost_manifest_is_said_again_by_a_generation(scene: Scene, less: dict[str, object]) -> None:
    """Also where the command of now asks for less: samples keep their blocks, and no tap is forgotten."""
    files = tree(scene.cache)
    (scene.cache / "manifest.json").unlink()
    report = build_cache(scene.options(**less))
    assert (report.rows, report.settled) == (0, False) and tree(scene.cache) == files


def test_a_folder_in_the_place_of_the_manifest_gives_way_or_is_named(scene: Scene) -> None:
    files, manifest = tree(scene.cache), scene.cache / "manifest.json"
    manifest.unlink()
    manifest.mkdir()
    build_cache(scene.options())
    assert tree(scene.cache) == files
    manifest.unlink()
    manifest.mkdir()
    (manifest / "notes").write_text("somebody's")
    with pytest.raises(BadCache, match="'manifest.json' is a folder that kdcache did not make") as caught:
        build_cache(scene.options())
    assert f"mv {manifest} {manifest}.aside" in caught.value.fix
    manifest.rename(f"{manifest}.aside")
    build_cache(scene.options())
    assert tree(scene.cache).items() >= files.items()


def test_the_manifest_of_another_cache_is_said_again_by_a_generation(scene: Scene) -> None:
    files = tree(scene.cache)
    reseal(scene.cache / "manifest.json", lambda plain: plain["identity"].update(weights="other"))
    repaired(scene)
    assert {n: d for n, d in tree(scene.cache).items() if files[n] != d} == {}


def test_all_records_gone_is_not_an_empty_cache(scene: Scene) -> None:
    before = living_rows(scene.cache)
    shutil.rmtree(scene.cache / "records")
    with pytest.raises(BadCache, match="is missing"):
        living_rows(scene.cache)
    assert len(named(scene).splitlines()) == 9
    repaired(scene)
    assert whole(scene) and living_rows(scene.cache) == before


# ---- generations


def renewed(scene: Scene) -> Rows:
    """Generation 2: an image changed, one is gone."""
    repaint(images(scene)[1], 3)
    remove(images(scene)[6])
    build_cache(scene.options(update=True))
    return living_rows(scene.cache)


def test_what_a_damaged_generation_retired_is_found_out_again(scene: Scene) -> None:
    rows = renewed(scene)
    damage(scene.cache / "generations" / "00002.json")
    with pytest.raises(BadCache, match="generation 2 of the cache cannot be read") as error:
        open_cache(scene.cache)
    assert "--repair" in error.value.fix and "generations/00002.json" in named(scene)
    repaired(scene)
    cache = open_cache(scene.cache)
    assert living_rows(scene.cache) == rows and whole(scene)
    assert cache.generation.retired.tolist() == [1, 6] and list_generations(scene.cache) == [1, 2]


def test_an_older_generation_that_is_damaged_goes_and_the_newest_stays(scene: Scene) -> None:
    rows = renewed(scene)
    damage(scene.cache / "generations" / "00001.json")
    assert named(scene).startswith("generations/00001.json: ")
    report = repaired(scene)
    assert (report.generation, report.settled) == (2, False) and list_generations(scene.cache) == [2]
    assert living_rows(scene.cache) == rows and whole(scene)


def test_all_generations_damaged_are_worked_out_again_from_the_records(scene: Scene) -> None:
    rows = renewed(scene)
    for number in (1, 2):
        damage(scene.cache / "generations" / f"{number:05d}.json")
    repaired(scene)
    assert living_rows(scene.cache) == rows and whole(scene)


# ---- what cannot be put back


def test_a_damaged_block_whose_source_changed_too_gets_new_rows_in_its_place(scene: Scene) -> None:
    before = living_rows(scene.cache)
    damage(scene.cache / "samples" / "00001.tar")
    repaint(images(scene)[4], 5)
    report = repaired(scene)
    cache = open_cache(scene.cache)
    assert report.settled and cache.generation.blocks[1] == LOST and cache.generation.num_living == 7
    after = living_rows(scene.cache)
    assert {name.split()[0] for name in after if after[name] != before[name]} == {"scene04"}
    assert whole(scene) and build_cache(scene.options()).shards == 0


def test_a_damaged_block_whose_file_is_gone_lives_on_without_it(scene: Scene) -> None:
    damage(scene.cache / "samples" / "00001.tar")
    remove(images(scene)[4])
    repaired(scene)
    cache = open_cache(scene.cache)
    assert {cache.key(i) for i in cache.living.tolist()} == {f"scene0{n}" for n in (0, 1, 2, 3, 5, 6)}
    assert whole(scene)


def test_one_damaged_tar_in_a_cache_that_grew_by_samples_that_sort_first(scene: Scene) -> None:
    """Blocks keep their keys: what is packed again is what was there, not what is listed there now."""
    add(scene, "aaa", 1)
    add(scene, "aab", 2)
    build_cache(scene.options())
    rows, files = living_rows(scene.cache), tree(scene.cache)
    for block in (0, 1, 3):
        damage(scene.cache / "samples" / f"{block:05d}.tar")
    assert len(named(scene).splitlines()) == 3
    repaired(scene)
    assert tree(scene.cache) == files and living_rows(scene.cache) == rows and whole(scene)


def test_a_shard_of_before_a_retirement_is_drawn_as_it_was_then(scene: Scene) -> None:
    """Its rows include one that has retired since; without it the bytes would be others."""
    renewed(scene)
    files = tree(scene.cache)
    damage(next(p for p in (scene.cache / "targets.zarr").rglob("stage4/*/values/c/1/0/0/0/0")))
    report = repaired(scene)
    assert not report.settled and tree(scene.cache) == files


def test_a_machine_that_gives_other_bytes_makes_new_rows_and_replaces_none(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here: another rounding, as by another batch size."""
    victim = next(p for p in (scene.cache / "targets.zarr").rglob("stage4/*/values/c/1/0/0/0/0"))
    damage(victim)
    damaged = victim.read_bytes()
    monkeypatch.setattr("kdcache.cache.build.write.seal_of", lambda content: "x3:" + "0" * 32)
    report = repaired(scene)
    cache = open_cache(scene.cache)
    assert report.settled and victim.read_bytes() == damaged, "nothing is written over it"
    assert cache.generation.blocks[0] == LOST and cache.living.tolist() == [3, 4, 5, 6, 9, 10, 11]
    assert whole(scene)


def test_repair_mends_both_passes_of_a_grown_cache(scene: Scene) -> None:
    build_cache(scene.options(taps=(parse_tap("stage1"),)))
    files = tree(scene.cache)
    for tap in ("stage1", "stage4"):
        damage(next(p for p in (scene.cache / "targets.zarr").rglob(f"{tap}/*/values/c/0/1/0/0/0")))
    repaired(scene)
    assert tree(scene.cache) == files and whole(scene)


def test_a_lone_sample_whose_block_is_lost_finds_a_partner_before_it(mixed: MixedScene) -> None:
    """The nearest block before it is its own old one, which cannot be read any more."""
    mixed.draw("dog/2", 70)
    damage(mixed.cache / "samples" / "00002.tar")
    repaired(mixed, update=True)
    cache = open_cache(mixed.cache)
    assert cache.generation.blocks[2] == LOST and cache.key(9) == "dog/2"
    assert partners(mixed.cache)["dog/2", 0] in ("cat/3", "dog/0", "dog/1") and whole(mixed)


def test_rows_that_show_a_sample_of_a_lost_block_are_made_again(mixed: MixedScene) -> None:
    """A lone sample whose partner lay in another block."""
    shown = partners(mixed.cache)
    assert shown["dog/2", 0] in ("cat/3", "dog/0", "dog/1")
    mixed.draw("dog/0", 71)
    damage(mixed.cache / "samples" / "00001.tar")
    repaired(mixed, update=True)
    cache = open_cache(mixed.cache)
    assert cache.generation.blocks[1] == LOST and cache.generation.num_living == 7
    assert stale(cache) == [] and whole(mixed)


def test_repair_of_a_whole_cache_changes_nothing(scene: Scene) -> None:
    files = tree(scene.cache)
    report = repaired(scene)
    assert (report.rows, report.shards, report.settled) == (0, 0, False) and tree(scene.cache) == files


def test_repair_leaves_the_label_that_was_stored(scene: Scene) -> None:
    """A changed file is `--update`'s to renew, where its block is whole."""
    before = living_rows(scene.cache)
    relabel(images(scene)[4])
    damage(scene.cache / "samples" / "00000.tar")
    repaired(scene)
    assert living_rows(scene.cache) == before


@pytest.mark.slow
def test_targets_in_tars_are_mended_too(tmp_path: Path) -> None:
    scene = built_scene(tmp_path / "scene", "webdataset")
    files = tree(scene.cache)
    damage(sorted(p for p in (scene.cache / "targets").rglob("*") if p.is_file())[0])
    assert named(scene)
    repaired(scene)
    assert tree(scene.cache) == files and whole(scene)
