"""Which cache is meant: a path, a name, or the only one there is."""

from pathlib import Path

import pytest
from manifests import manifest

from kdcache.cache.errors import BadOption, Missing
from kdcache.cache.record import find
from kdcache.cache.record.find import (
    caches_dir,
    find_cache,
    home_dir,
    list_begun,
    list_caches,
    runs_dir,
    stored_cache,
)
from kdcache.cache.record.manifest import FILE_NAME, manifest_bytes
from kdcache.cache.record.records import record_name
from kdcache.cache.stores.contract import ShardKey


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / FILE_NAME).write_text("{}")
        record_targets(folder / name)


def record_targets(root: Path) -> None:
    (root / "records").mkdir()
    (root / record_name(ShardKey(0, 0, "01234567"))).touch()


def test_home_is_the_variable_else_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    assert caches_dir(home_dir()) == tmp_path / "caches" and runs_dir(home_dir()) == tmp_path / "runs"
    monkeypatch.setenv("KDCACHE_HOME", "~/some")
    assert home_dir() == Path.home() / "some"
    for unset in ("", None):
        monkeypatch.delenv("KDCACHE_HOME") if unset is None else monkeypatch.setenv("KDCACHE_HOME", unset)
        assert home_dir() == Path(".")


def test_only_folders_with_a_manifest_and_targets_are_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "read_manifest", lambda root: None)  # each can be read
    assert list_caches(tmp_path / "none") == list_begun(tmp_path / "none") == []
    make(tmp_path, "b", "a")
    for name in ("refused", "packed"):
        (tmp_path / name / "records").mkdir(parents=True)
        (tmp_path / name / FILE_NAME).write_text("{}")
    (tmp_path / "packed" / record_name(ShardKey(0))).touch()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "note.txt").touch()
    assert list_caches(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert [path.name for path in list_begun(tmp_path)] == ["a", "b", "packed", "refused"]
    assert find_cache("packed", tmp_path) == tmp_path / "packed", "its whole name still means it"


def test_a_manifest_that_cannot_be_read_is_a_cache_of_which_that_is_said(tmp_path: Path) -> None:
    """Or one of another format: 'there is no cache yet' would be false."""
    for name, text in (("damaged", "{"), ("old", '{"format": 1}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE_NAME).write_text(text)
    assert list_caches(tmp_path) == [tmp_path / "damaged", tmp_path / "old"]


def test_the_only_cache_needs_no_name(tmp_path: Path) -> None:
    make(tmp_path, "camvid-r101-0123abcd")
    assert find_cache(None, tmp_path) == tmp_path / "camvid-r101-0123abcd"


def test_of_several_caches_none_is_taken_unasked(tmp_path: Path) -> None:
    make(tmp_path, "a", "b")
    with pytest.raises(BadOption, match="there are 2 caches: a, b") as caught:
        find_cache(None, tmp_path)
    assert "--cache" in caught.value.fix


def test_without_any_cache_the_command_that_builds_one_is_said(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="there is no cache yet") as caught:
        find_cache(None, tmp_path)
    assert "kdcache build --teacher" in caught.value.fix


def test_a_build_that_only_began_is_said_to_lie_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "read_manifest", lambda root: None)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / FILE_NAME).write_text("{}")
    with pytest.raises(Missing, match="no cache yet; the build of 'half' ended before its first") as caught:
        find_cache(None, tmp_path)
    assert caught.value.fix.startswith("type the command that began it again, or build one with")


def test_a_cache_is_found_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "caches", "a", "b")
    make(tmp_path / "elsewhere", "c")
    monkeypatch.chdir(tmp_path)
    assert find_cache("b", tmp_path / "caches") == tmp_path / "caches" / "b"
    assert find_cache(str(tmp_path / "elsewhere/c"), tmp_path / "caches") == tmp_path / "elsewhere/c"
    assert find_cache("elsewhere/c", tmp_path / "caches") == Path("elsewhere/c")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("camvid-r110", "did you mean 'camvid-r101'?"), ("xyz", "caches there: camvid-r101, voc-r50")],
)
def test_a_misspelt_cache_offers_the_nearest_or_all(tmp_path: Path, name: str, hint: str) -> None:
    make(tmp_path, "camvid-r101", "voc-r50")
    with pytest.raises(Missing, match=f"there is no cache '{name}'") as caught:
        find_cache(name, tmp_path)
    assert caught.value.fix == hint


def test_a_cache_whose_manifest_is_lost_is_still_one(tmp_path: Path) -> None:
    """Else another cache of the home would become the only one, and a run would train on it unasked."""
    make(tmp_path, "whole")
    (tmp_path / "torn" / "generations").mkdir(parents=True)
    (tmp_path / "torn" / "generations" / "00001.json").write_text("{}")
    assert [path.name for path in list_caches(tmp_path)] == ["torn", "whole"]
    assert find_cache("torn", tmp_path) == tmp_path / "torn"
    with pytest.raises(BadOption, match="there are 2 caches"):
        find_cache(None, tmp_path)


def test_the_beginning_of_a_name_is_enough_where_one_cache_has_it(tmp_path: Path) -> None:
    make(tmp_path, "camvid-r101-0123abcd", "camvid-r50-89abcdef", "voc-r101-0123abcd")
    assert find_cache("voc", tmp_path) == tmp_path / "voc-r101-0123abcd"
    assert find_cache("camvid-r5", tmp_path) == tmp_path / "camvid-r50-89abcdef"
    with pytest.raises(BadOption) as caught:
        find_cache("camvid", tmp_path)
    assert caught.value.what == "'camvid' means 2 caches: camvid-r101-0123abcd, camvid-r50-89abcdef"
    assert caught.value.where == str(tmp_path)
    assert caught.value.fix == "name one of them, such as --cache camvid-r101-0123abcd"
    for nothing in ("", " ", "r101", "0123abcd"):
        with pytest.raises(Missing, match=f"there is no cache '{nothing}'"):
            find_cache(nothing, tmp_path)


def test_a_whole_name_wins_over_a_longer_one(tmp_path: Path) -> None:
    make(tmp_path, "small", "small-2")
    assert find_cache("small", tmp_path) == tmp_path / "small"


def test_what_a_file_remembers_is_never_taken_for_a_beginning(tmp_path: Path) -> None:
    """Else a run whose cache was removed would go on with another one."""
    make(tmp_path, "small-2")
    assert find_cache("small", tmp_path) == stored_cache("small-2", tmp_path) == tmp_path / "small-2"
    assert stored_cache(None, tmp_path) == tmp_path / "small-2"
    with pytest.raises(Missing, match="there is no cache 'small'") as caught:
        stored_cache("small", tmp_path)
    assert caught.value.fix == "did you mean 'small-2'?"


def described(folder: Path, name: str, origin: str, data: str, label: str) -> None:
    """A cache whose manifest says so, under a name that does not."""
    (folder / name).mkdir()
    plain = manifest(teacher_origin=origin, teacher=origin, identity={"label": label})
    plain = plain.grown(name=name, data={**plain.data, "name": data})
    (folder / name / FILE_NAME).write_bytes(manifest_bytes(plain))
    record_targets(folder / name)


def test_teacher_and_data_name_a_cache(tmp_path: Path) -> None:
    described(tmp_path, "one", "r101", "camvid", "camvid")
    described(tmp_path, "two", "r101", "my.data:Streets", "berlin")
    described(tmp_path, "three", "r50", "camvid", "camvid")
    make(tmp_path, "torn")  # no manifest that can be read
    for words, name in (
        ("r101 camvid", "one"),
        ("r101 Streets", "two"),
        ("r101 my.data:Streets", "two"),
        (" r101   berlin ", "two"),
        ("r50 camvid", "three"),
    ):
        assert find_cache(words, tmp_path) == tmp_path / name, words
    for words in ("camvid r101", "r101", "r101 cam", "r101 camvid x"):
        with pytest.raises(Missing, match="there is no cache"):
            find_cache(words, tmp_path)
    described(tmp_path, "four", "r50", "camvid", "other")
    with pytest.raises(BadOption, match="'r50 camvid' means 2 caches: four, three"):
        find_cache("r50 camvid", tmp_path)
