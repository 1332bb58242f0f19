"""Data that lie elsewhere now: the cache goes with them, other data do not get it, changes are found."""

import shutil
from pathlib import Path

import pytest
from cache_scene import Scene, living_rows, relabel, repaint, tree

from kdcache.cache.build.build import BuildEvents, BuildReport, build_cache
from kdcache.cache.build.samples import survey as survey_module
from kdcache.cache.build.samples.survey import Content, Survey
from kdcache.cache.errors import BadSample
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.manifest import read_manifest
from kdcache.cache.sources.contract import Source


def build(scene: Scene, folder: Path, **changes: object) -> tuple[BuildReport, Survey]:
    surveys: list[Survey] = []
    named = {"cache": scene.cache, "data": f"folder:{folder}", **changes}
    report = build_cache(scene.options(**named), BuildEvents(surveyed=surveys.append))
    return report, surveys[0]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Samples of which the survey read the files."""
    indices: list[int] = []
    honest = survey_module.content_of

    def counted(source: Source, index: int) -> Content:
        indices.append(index)
        return honest(source, index)

    monkeypatch.setattr(survey_module, "content_of", counted)
    return indices


def elsewhere(scene: Scene) -> Path:
    folder = scene.root / "elsewhere" / "data"
    shutil.copytree(scene.data, folder)  # new times
    shutil.rmtree(scene.data)
    return folder


def images_in(folder: Path) -> list[Path]:
    return sorted((folder / "train" / "images").iterdir())


def test_the_same_files_in_another_folder_keep_their_cache(scene: Scene) -> None:
    before, folder = living_rows(scene.cache), elsewhere(scene)
    report, survey = build(scene, folder)
    assert (report.root, report.rows, report.shards) == (scene.cache, 0, 0)
    assert not survey.differs and survey.wanted == () and living_rows(scene.cache) == before
    assert read_manifest(scene.cache).data_spec == f"folder:{folder}"
    assert open_cache(scene.cache).manifest.data_spec == f"folder:{folder}"
    report, _ = build(scene, folder)
    assert not report.settled, "and it is said once"


def test_a_cache_that_was_moved_is_found_by_its_data_too(scene: Scene) -> None:
    """The folder is no part of its name: the plain command of the new place finds it."""
    folder = elsewhere(scene)
    report = build_cache(scene.options(data=f"folder:{folder}"))
    assert report.root == scene.cache and report.rows == 0


def test_of_many_files_only_some_are_read_and_all_with_check(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, read: list[int]
) -> None:
    compared: list[int] = []
    honest = survey_module.content_or_none
    monkeypatch.setattr("kdcache.cache.build.samples.moved.COMPARED", 3)

    def counted(source: Source, index: int) -> Content:
        compared.append(index)
        return honest(source, index)

    monkeypatch.setattr("kdcache.cache.build.samples.moved.content_or_none", counted)
    folder = elsewhere(scene)
    build(scene, folder)
    assert compared == [0, 2, 4] and sorted(read) == [0, 2, 4], "three of seven, and no file beside them"
    read.clear()
    build(scene, folder, check=True)
    assert sorted(read) == list(range(7))


def test_other_data_of_the_same_kind_are_refused(scene: Scene) -> None:
    files, folder = tree(scene.cache), elsewhere(scene)
    for number, image in enumerate(images_in(folder)):
        repaint(image, 100 + number)
    with pytest.raises(BadSample, match="these are other data: of 7 samples compared 0 agree") as error:
        build(scene, folder)
    assert error.value.where.startswith(f"folder:{folder}; the cache was made from folder:")
    assert "KDCACHE_HOME" in error.value.fix and tree(scene.cache) == files


def test_a_file_that_changed_on_the_way_is_found(scene: Scene) -> None:
    folder = elsewhere(scene)
    repaint(images_in(folder)[2], 7)
    report, survey = build(scene, folder)
    assert survey.images == ("scene02",) and not survey.renewed and report.rows == 0
    report, survey = build(scene, folder, update=True)
    assert report.rows == 2 and build(scene, folder)[1].differs is False


def test_a_file_of_another_size_is_read_even_where_the_sample_of_files_agrees(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdcache.cache.build.samples.moved.COMPARED", 1)
    folder = elsewhere(scene)
    repaint(images_in(folder)[5], 7)
    assert build(scene, folder)[1].images == ("scene05",)


def test_a_file_of_the_same_size_that_changed_on_the_way_is_found_by_check(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the sample of files cannot say, and the documentation says so."""
    monkeypatch.setattr("kdcache.cache.build.samples.moved.COMPARED", 1)
    folder = elsewhere(scene)
    label = sorted((folder / "train" / "labels").iterdir())[5]
    content = bytearray(label.read_bytes())
    content[-20] ^= 1
    label.write_bytes(content)
    assert build(scene, folder)[1].differs is False
    assert build(scene, folder, check=True)[1].labels == ("scene05",)


def test_a_changed_label_in_another_folder_copies_its_targets(scene: Scene) -> None:
    folder = elsewhere(scene)
    relabel(images_in(folder)[2])
    report, survey = build(scene, folder, update=True)
    assert survey.labels == ("scene02",) and report.rows == 0
