"""`kdcache build` that refuses: what the message says to type works, typed as it stands."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_folder import draw_folder

from kdcache.cache.record.manifest import Manifest, read_manifest
from kdcache.cli.kdcache import main

TINY = ["--teacher", "tiny_teacher:make", "--views", "crops:1", "--crop", "24,32", "--shard-rows", "2"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    draw_folder(tmp_path / "my images", count=3)
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def build(*words: str) -> Result:
    return run("build", "--device", "cpu", "--data", "folder:my images", *words)


def refused(*words: str) -> str:
    """The fix that is printed."""
    result = build(*words)
    assert result.exit_code == 2, result.output
    return result.output.partition("fix:")[2].strip()


def typed(command: str, *more: str) -> Result:
    program, *words = shlex.split(command)
    assert program == "kdcache"
    return run(*words, "--device", "cpu", *more)


def caches(home: Path) -> dict[str, Manifest]:
    return {p.name: read_manifest(p) for p in sorted((home / "caches").iterdir())}


def test_a_tap_that_fp16_cannot_hold_is_built_as_the_message_says(home: Path) -> None:
    loud = [
        "--teacher",
        "exact_teachers:make_loud",
        "--tap",
        "logits",
        "--views",
        "crops:1",
        "--crop",
        "24,32",
    ]
    fix = refused(*loud)
    assert "--tap NAME=fp32" in fix
    again = build(*loud, "--tap", "logits=fp32")
    assert again.exit_code == 0, again.output
    assert [tap.codec for tap in next(iter(caches(home).values())).taps] == ["fp32"]
    assert run("verify").exit_code == 0


@pytest.mark.parametrize("wrong", [["--shard-rows", "3"], ["--format", "webdataset"], ["--zstd"]])
def test_a_layout_that_is_there_is_kept_where_the_option_is_left_out(home: Path, wrong: list[str]) -> None:
    assert build(*TINY).exit_code == 0
    without = TINY[:6]
    fix = refused(*without, *wrong)
    assert f"leave {wrong[0]} out" in fix and "another $KDCACHE_HOME" in fix
    assert build(*without).exit_code == 0


@pytest.mark.parametrize("wrong", [["--crop", "32,32"], ["--augment", "flip"]])
def test_other_crops_of_a_cache_that_is_named_are_built_beside_it(home: Path, wrong: list[str]) -> None:
    assert build(*TINY).exit_code == 0
    (name,) = caches(home)
    fix = refused("--teacher", "tiny_teacher:make", "--cache", name, *wrong)
    command = fix.partition("cache of its own: ")[2]
    assert typed(command, "--views", "crops:1").exit_code == 0
    (other,) = caches(home).keys() - {name}
    assert caches(home)[other].identity != caches(home)[name].identity


def test_a_codec_that_is_there_is_kept_where_it_is_left_out(home: Path) -> None:
    assert build(*TINY).exit_code == 0
    assert "leave the codec out" in refused(*TINY, "--tap", "stage4=fp16")
    assert build(*TINY, "--tap", "stage4").exit_code == 0


def test_a_damaged_cache_is_mended_by_the_command_that_every_message_prints(home: Path) -> None:
    assert build(*TINY).exit_code == 0
    (name,) = caches(home)
    record = next((home / "caches" / name / "records").glob("00001-v000-*"))
    record.unlink()
    fix = refused(*TINY)
    verified = run("verify")
    assert verified.exit_code == 1
    commands = re.findall(r"kdcache build (?:--cache \S+ )?--repair", f"{fix}\n{verified.output}")
    assert commands == ["kdcache build --repair", f"kdcache build --cache {name} --repair"]
    for command in commands:
        assert typed(command).exit_code == 0 and run("verify").exit_code == 0


def test_a_cache_of_format_1_names_the_command_that_builds_it_again(home: Path) -> None:
    old = home / "caches" / "old"
    old.mkdir(parents=True)
    data = f"folder:{home / 'my images'}"
    (old / "manifest.json").write_text(
        f'{{"format": 1, "teacher_origin": "tiny_teacher:make", "data_spec": "{data}"}}'
    )
    for command in (["show"], ["verify"], ["build", "--cache", "old", "--teacher", "tiny_teacher:make"]):
        result = run(*command)
        assert result.exit_code == 2 and "has format 1, this kdcache reads 2" in result.output
    line = run("show").output.partition("build it again: ")[2]
    assert typed(line, *TINY[2:]).exit_code == 0 and len(list((home / "caches").iterdir())) == 2


def test_a_file_whose_name_is_no_text_is_named_before_anything_is_written(home: Path) -> None:
    folder = home / "my images" / "train" / "images"
    strange = folder / b"sc\xff".decode(errors="surrogateescape")
    strange.with_suffix(".jpg").write_bytes((folder / "scene00.jpg").read_bytes())
    result = build(*TINY)
    assert result.exit_code == 2 and "sc\\udcff" in result.output and not (home / "caches").exists()
    strange.with_suffix(".jpg").unlink()
    assert build(*TINY).exit_code == 0
