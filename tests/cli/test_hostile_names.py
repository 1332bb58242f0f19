"""Names that a stranger chose reach the terminal of every command as what they are: no escape sequence, no
markup, no line that nobody wrote."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from class_data import draw_imagefolder
from click.testing import CliRunner
from PIL import Image

from kdcache.cache.reader.cache import open_cache
from kdcache.cli import terminal
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain

# Sets a window's title, erases the screen twice, turns text around, ends markup that nobody began, names a
# picture of rich, begins a line: whatever a terminal, rich or a reader could be made to obey.
EVIL = "\x1b]0;owned\x07\x9b2J\u202e[/b][red]x[link=file:]:smile:\nerror: y 猫"
SEEN = r"\x1b]0;owned\x07\x9b2J\u202e[/b][red]x[link=file:]:smile:\nerror: y 猫"
CLASSES = (f"a{EVIL}", f"b{EVIL}")
NETWORK = ["--student", "tiny_classifier:make", "--steps", "1", "--batch-size", "4", "--device", "cpu"]
NETWORK += ["--weights", "none", "--eval-every", "1"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose folder, data, classes, images and factory have such names, with a cache and a run."""
    root = tmp_path_factory.mktemp("evil") / f"home{EVIL}".replace("/", "-")
    data = draw_imagefolder(root / "data")
    for split in ("train", "val"):
        for name, new in zip(("cat", "dog"), CLASSES, strict=True):
            (data / split / name).rename(data / split / new.replace("/", "-"))
        first = next((data / split).rglob("*.jpg"))
        first.rename(first.with_name(f"{EVIL.replace('/', '-')}.jpg"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDCACHE_HOME", str(root))
        say("kdcache", "build", "--teacher", "tiny_classifier:make", "--data", f"imagefolder:{data}",
            "--views", "crops:1", "--device", "cpu")  # fmt: skip
        say("kdtrain", "--loss", "kd", "--run", "r", *NETWORK)
        yield root


PROGRAMS = {"kdcache": kdcache, "kdtrain": kdtrain}
RICH = re.compile(r"\x1b\[([0-9;]*m|\?25[lh]|2K|1A)|\r")


def say(program: str, *words: str, status: int = 0, live: bool = False) -> str:
    """What a command prints, on both streams, after the check that matters. `live`: rich's own styles, and
    how its bar moves the cursor, may be in it."""
    result = CliRunner().invoke(PROGRAMS[program], list(words))
    assert result.exit_code == status, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    printed = RICH.sub("", result.output) if live else result.output
    assert [line for line in printed.split("\n") if not line.isprintable()] == []
    assert not re.search("^error: y", printed, re.MULTILINE), "a name began a line"
    return printed


@pytest.fixture(params=[False, True], ids=["file", "terminal"])
def live(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether rich believes that a person looks."""
    if request.param:
        real = terminal.Console

        def console(**given: Any) -> Any:
            return real(**{**given, "force_terminal": True, "width": 200})

        monkeypatch.setattr(terminal, "Console", console)
    return bool(request.param)


SEEN_KEY = SEEN.replace("/", "-")
LOOKS = (
    ("kdcache", "show"),
    ("kdcache", "show", "--keys"),
    ("kdcache", "verify"),
    ("kdcache", "verify", "--pixels"),
    ("kdcache", "verify", "--deep", "--teacher", "tiny_classifier:make"),
    ("kdcache", "taps", "--teacher", "tiny_classifier:make", "--task", "classification", "--modules"),
    ("kdtrain", "eval", "r"),
    ("kdcache", "build"),
)


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_a_command_that_looks_at_hostile_names_shows_them(
    home: Path, words: tuple[str, ...], live: bool
) -> None:
    printed = say(*words, live=live)
    if words[-1] == "--keys":
        assert SEEN_KEY in printed
    if words[1] == "eval" and live:  # else the column of the table folds it
        assert "[-b][red]x[link=file:]:smile:" in printed


def test_pictures_are_drawn_whatever_the_names_are(home: Path, tmp_path: Path) -> None:
    cache = open_cache(next((home / "caches").iterdir()))
    evil = next(key for key in map(cache.key, cache.living.tolist()) if key.endswith("猫"))
    out = tmp_path / f"{SEEN_KEY}.png"
    assert out.name in say("kdcache", "peek", evil, "--out", str(out)).replace("\n", "")
    assert np.asarray(Image.open(out)).std() > 0


def test_a_changed_sample_is_named_and_a_bad_one_too(home: Path, tmp_path: Path) -> None:
    other = shutil.copytree(home, tmp_path / "other")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDCACHE_HOME", str(other))
        image = next(path for path in (other / "data" / "train").rglob("*.jpg") if path.stem.endswith("猫"))
        build = ["kdcache", "build", "--data", f"imagefolder:{other / 'data'}"]
        Image.new("RGB", (40, 40)).save(image)
        changed = re.search("image changed: 1 (.*)", say(*build))
        assert changed is not None and changed[1].endswith(f"/{SEEN_KEY})")
        image.write_bytes(b"no image")
        assert "error: " in say(*build, "--update", status=2)


TYPED = (
    ("kdcache", "show", EVIL),
    ("kdcache", "verify", "--cache", EVIL),
    ("kdcache", "peek", EVIL),
    ("kdcache", "compact", "--out", EVIL),
    ("kdcache", "taps", "--teacher", EVIL),
    ("kdcache", "taps", "--teacher", "no.such:make\x1b"),
    ("kdcache", "build", "--teacher", EVIL, "--data", "folder:x"),
    ("kdcache", "build", "--teacher", "r18", "--data", f"folder:{EVIL}"),
    ("kdcache", "build", "--teacher", "r18", "--data", EVIL),
    ("kdcache", "build", "--tap", f"stage4={EVIL}"),
    ("kdcache", "build", "--memory", EVIL),
    ("kdcache", "build", "--threads", EVIL),
    ("kdcache", "build", "--format", EVIL),
    ("kdcache", "build", "--views", EVIL),
    ("kdcache", f"--{EVIL}"),
    ("kdcache", "verify", "a", EVIL),  # the one word that click repeats as it is
    ("kdcache", EVIL),
    ("kdtrain", EVIL),
    ("kdtrain", f"--{EVIL}"),
    ("kdtrain", "--loss", EVIL),
    ("kdtrain", "--loss", f"kd({EVIL}=1)"),
    ("kdtrain", "--run", EVIL, "--data", f"folder:{EVIL}"),
    ("kdtrain", "--crop", EVIL),
    ("kdtrain", "--steps", EVIL),
    ("kdtrain", "--optimizer", EVIL),
    ("kdtrain", "--augment", EVIL, "--data", "folder:x"),
    ("kdtrain", "--resume", "--run", EVIL),
    ("kdtrain", "eval", EVIL),
    ("kdtrain", "methods", EVIL),
    ("kdtrain", "chain", EVIL, "r18", "--data", "folder:x"),
    ("kdtrain", "chain", "r18", "r18", "--data", f"folder:{EVIL}"),
    ("kdtrain", "eval", "r", "--split", EVIL),
    ("kdtrain", "eval", "r", "--teacher", EVIL),
    ("kdtrain", "--student", EVIL, "--loss", "none"),
    ("kdtrain", "--init", EVIL, *NETWORK, "--run", "i"),
)


@pytest.mark.parametrize("words", TYPED, ids=lambda words: ascii(" ".join(words)[:40]))
def test_what_was_typed_is_repeated_as_it_can_be_seen(home: Path, words: tuple[str, ...]) -> None:
    assert say(*words, status=2)


def test_json_keeps_every_name_to_the_letter(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    say("kdtrain", "eval", "r", "--out", str(out))
    names = [name.replace("/", "-") for name in CLASSES]
    figures = json.loads(out.read_bytes())
    assert [key for key, value in figures.items() if isinstance(value, dict) and list(value) == names] != []
    assert out.read_bytes().isascii()
    for line in (home / "runs" / "r" / "metrics.jsonl").read_bytes().splitlines():
        assert line.decode("ascii").isprintable() and json.loads(line)


POOR = ("show", "猫"), ("show", "--keys"), ("--help",), ("build", "--猫"), ("build", "--threads", "猫")


@pytest.mark.parametrize("words", POOR, ids=lambda words: ascii(" ".join(words)))
def test_a_terminal_of_a_poor_encoding_gets_escapes(
    home: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    streams = [io.TextIOWrapper(written, "ascii", write_through=True) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with pytest.raises(SystemExit) as ended:
        kdcache(list(words))
    monkeypatch.undo()
    assert ended.value.code == (0 if words[-1] in ("--keys", "--help") else 2)
    assert words == ("--help",) or rb"\u732b" in written.getvalue()


@pytest.mark.parametrize("setting", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}], ids=str)
def test_a_process_of_a_poor_encoding_ends_without_a_traceback(
    tmp_path: Path, setting: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "kdcache.cli.kdcache", "verify", "a", "猫\x1b"]
    got = subprocess.run(
        command, env={**os.environ, **setting}, cwd=tmp_path, capture_output=True, check=False
    )
    assert got.returncode == 2 and b"Traceback" not in got.stderr and rb"\x1b" in got.stderr


def test_the_streams_are_left_as_they_were() -> None:
    before = sys.stdout.errors
    with terminal.AnyEncoding():
        pass
    assert sys.stdout.errors == before


def test_a_usage_error_still_says_how_the_command_is_used() -> None:
    said = CliRunner().invoke(kdcache, ["verify", "--rows", "\x1b"])
    assert said.exit_code == 2 and "Usage: " in said.stderr and "verify" in said.stderr


def test_a_run_keeps_every_name_whatever_the_encoding_is(tmp_path: Path) -> None:
    """config.toml holds class names; TOML is UTF-8 wherever it is written."""
    code = (
        "import sys; from pathlib import Path; from kdcache.trainer.folder.atomic_file import write_text; "
        "write_text(Path(sys.argv[1]), 'T\\xfcr \\u732b')"
    )
    poor = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    path = tmp_path / "config.toml"
    command = [sys.executable, "-c", code, str(path)]
    subprocess.run(command, env={**os.environ, **poor}, check=True, capture_output=True)
    assert path.read_bytes() == "Tür 猫".encode()


def test_runs_and_teachers_with_hostile_names_train_judge_and_teach(home: Path, live: bool) -> None:
    """A run cannot be called so, but whoever made its folder may have renamed it."""
    data, plain = f"imagefolder:{home / 'data'}", f"[b][red]猫{int(live)}"
    assert plain in say("kdtrain", "--loss", "none", "--data", data, "--run", plain, *NETWORK, live=live)
    named = f"\u202e{plain}\x9b2J"
    (home / "runs" / plain).rename(home / "runs" / named)
    seen, there = rf"\u202e{plain}\x9b2J", set((home / "caches").iterdir())
    assert seen in say("kdtrain", "eval", named, live=live)
    assert seen in say(
        "kdcache", "build", "--teacher", named, "--views", "crops:1", "--device", "cpu", live=live
    )
    for made in set((home / "caches").iterdir()) - there:
        shutil.rmtree(made)  # the others name no cache, because there is one


def test_a_chain_prints_commands_that_can_be_copied_whatever_they_name(home: Path) -> None:
    data = f"imagefolder:{home / 'data'}"
    lines = say("kdtrain", "chain", "resnet20", "resnet20", "--data", data, "--dry-run").splitlines()
    typed = next(line for line in lines if "--data" in line)
    word = subprocess.run(
        ["bash", "-c", f"printf %s {typed.partition('--data ')[2]} | cat"], capture_output=True, check=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    ).stdout.decode()  # fmt: skip
    assert word.startswith(data)
