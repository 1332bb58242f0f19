"""An operating system that refuses any one call: exit status 2 in three parts or no harm at all, and the same
command finishes when the fault is gone."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cache_scene import Scene, built_scene, living_rows, tree
from click.testing import CliRunner, Result
from refusals import CODES, Refusing

from kdcache.cache.trust import trust
from kdcache.cli.kdcache import main
from kdcache.cli.kdtrain import kdtrain

CALLS = ("open", "write", "fsync", "replace", "link", "mkdir", "scandir", "listdir", "stat", "unlink")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    trust("tiny_teacher")
    scene = built_scene(tmp_path_factory.mktemp("refusals") / "scene", "zarr")
    shutil.copytree(scene.caches, scene.root / "kept", copy_function=shutil.copy2)
    return scene


@pytest.fixture
def scene(built: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """In the same folder for every test: a manifest names it."""
    shutil.rmtree(built.caches)
    shutil.copytree(built.root / "kept", built.caches, copy_function=shutil.copy2)
    monkeypatch.setenv("KDCACHE_HOME", str(built.root))
    return built


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def build(scene: Scene, *more: str) -> Result:
    words = [
        "build",
        "--teacher",
        "tiny_teacher:make",
        "--data",
        f"folder:{scene.data}",
        "--views",
        "crops:2",
    ]
    words += ["--crop", "32", "--tap", "stage4", "--tap", "logits", "--shard-rows", "3", "--batch-size", "4"]
    return run(*words, *more)


def in_three_parts(result: Result) -> bool:
    """Or no harm."""
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    text = result.output
    assert "repair" not in text.lower() and result.exit_code in (0, 2)
    return result.exit_code == 0 or ("error: " in text and "  where: " in text and "  fix:   " in text)


@pytest.mark.parametrize("code", CODES, ids=lambda code: errno.errorcode[code])
def test_a_build_that_is_refused_a_call_says_so_and_is_finished_by_the_same_command(
    scene: Scene, code: int
) -> None:
    before = living_rows(scene.cache)
    with Refusing(scene.root) as counted:
        assert build(scene, "--tap", "stage1").exit_code == 0
    files = tree(scene.cache)
    turn = CODES.index(code)  # each number meets other calls
    for name in (CALLS[turn % len(CALLS)], CALLS[(turn + 5) % len(CALLS)], "write"):
        places = [number for number, call in enumerate(counted.calls) if call[0] == name]
        shutil.rmtree(scene.caches)
        shutil.copytree(scene.root / "kept", scene.caches, copy_function=shutil.copy2)
        at = places[len(places) * (turn + 1) // (len(CODES) + 1)]
        with Refusing(scene.root, at, code, lasting=turn % 2 == 0):
            assert in_three_parts(build(scene, "--tap", "stage1")), (name, at)
        rows = living_rows(scene.cache)
        assert {key: rows[key] for key in before} == before  # what was there is kept
        assert build(scene, "--tap", "stage1").exit_code == 0
        assert tree(scene.cache) == files


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES], ids=["EROFS", "EACCES"])
def test_a_cache_that_is_only_read_shows_verifies_draws_and_has_nothing_to_do(
    scene: Scene, code: int, tmp_path: Path
) -> None:
    image = sorted((scene.data / "train" / "images").iterdir())[1]
    os.utime(image)  # the note of its time would be written anew
    (scene.cache / ".kdtmp-1-1-left").touch()  # by a builder that died
    files = tree(scene.cache)
    with Refusing(scene.caches, 0, code, lasting=True, writing=True) as refusing:
        assert run("show").exit_code == 0
        assert "0 damaged" in run("verify").output
        assert run("peek", "scene01", "--out", str(tmp_path / "p.png")).exit_code == 0
        assert "nothing to do" in build(scene).output
        more = build(scene, "--tap", "stage1")
    assert refusing.calls, "a build wants to write something"
    assert more.exit_code == 2 and "'manifest.json' could not be written" in more.output
    assert tree(scene.cache) == files


@pytest.mark.parametrize("words", [("show",), ("verify",), ("peek", "scene01")], ids=lambda words: words[0])
@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE], ids=["EIO", "EMFILE"])
def test_a_file_that_cannot_be_read_is_no_damage(
    scene: Scene, code: int, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where 'peek' puts its picture
    with Refusing(scene.caches) as counted:
        run(*words)
    opened = [number for number, call in enumerate(counted.calls) if call[0] == "open"]
    for at in opened[:: max(1, len(opened) // 4)]:
        with Refusing(scene.caches, at, code) as refusing:
            result = run(*words)
        assert in_three_parts(result) and result.exit_code == 2
        assert refusing.calls[at][1].rpartition("/")[2] in result.output  # the file is named


def test_a_source_that_cannot_be_listed_retires_nobody(scene: Scene) -> None:
    """os.walk passes over a folder that it may not list, as if it were empty."""
    with Refusing(scene.data) as counted:
        build(scene, "--update")
    before = tree(scene.cache)
    at = next(number for number, call in enumerate(counted.calls) if call[0] == "scandir")
    with Refusing(scene.data, at, errno.ESTALE):
        result = build(scene, "--update")
    assert result.exit_code == 2 and "the folder cannot be listed" in result.output
    assert tree(scene.cache) == before


def test_an_image_that_cannot_be_reached_is_not_skipped_as_bad(scene: Scene) -> None:
    shutil.rmtree(scene.caches)
    with Refusing(scene.data) as counted:
        assert build(scene, "--skip-bad").exit_code == 0
    at = max(n for n, call in enumerate(counted.calls) if call[0] == "open" and call[1].endswith(".jpg"))
    shutil.rmtree(scene.caches)
    with Refusing(scene.data, at, errno.EIO):
        result = build(scene, "--skip-bad")
    assert result.exit_code == 2 and "the disk reports an error: the image of" in result.output


def test_a_deleted_current_folder_is_a_sentence(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert in_three_parts(result := run("show")) and "the current folder was deleted" in result.output


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (main, ["show", "--cache", "~nosuchuser/x"]),
        (main, ["build", "--teacher", "r50", "--data", "folder:~nosuchuser/x"]),
        (kdtrain, ["--student", "r50", "--loss", "none", "--data", "folder:~nosuchuser/x"]),
        (kdtrain, ["eval", "~nosuchuser/x"]),
    ],
)
def test_a_user_that_nobody_knows_is_a_sentence(
    command: Callable[..., object], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    result = CliRunner().invoke(command, words)  # type: ignore[arg-type]
    assert in_three_parts(result) and "there is no user 'nosuchuser'" in result.output


def test_a_home_that_is_a_file_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").touch()
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path / "home"))
    assert run("show").output == (
        "error: $KDCACHE_HOME is a file, and runs and caches lie in a folder\n"
        f"  where: {tmp_path / 'home'}\n  fix:   name a folder: export KDCACHE_HOME=DIR\n"
    )


def test_a_picture_needs_a_name_that_says_so(scene: Scene, tmp_path: Path) -> None:
    result = run("peek", "scene01", "--out", str(tmp_path / "f"))
    assert in_three_parts(result) and result.output.endswith(f"--out {tmp_path / 'f.png'}\n")
    assert run("peek", "scene01", "--out", str(tmp_path / "f.png")).exit_code == 0


def test_a_full_disk_keeps_the_picture_that_was_there(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "f.png").write_bytes(b"old")
    with Refusing(tmp_path, 0, errno.ENOSPC, writing=True, lasting=True):
        result = run("peek", "scene01", "--out", str(tmp_path / "f.png"))
    assert in_three_parts(result) and "the disk is full: 'f.png' could not be written" in result.output
    assert (tmp_path / "f.png").read_bytes() == b"old"


def test_a_disk_that_is_too_small_is_told_in_units_that_show_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1536})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    shutil.rmtree(scene.caches)
    result = build(scene)
    assert in_three_parts(result) and "KiB, the disk has 1.5 KiB free" in result.output


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
    ],
    ids=["python", "thread", "torch"],
)
def test_memory_that_is_refused_is_a_sentence(
    scene: Scene, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("kdcache.cache.reader.cache.open_cache", fail)
    result = run("show")
    assert in_three_parts(result) and result.exit_code == 2
    assert "the machine has too little memory" in result.output and "ask for less at once" in result.output


def test_a_bug_keeps_its_traceback(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("kdcache.cache.reader.cache.open_cache", fail)
    assert isinstance(run("show").exception, RuntimeError)
