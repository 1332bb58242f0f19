"""What TAB offers: names that are there, where one is asked for, and never an error inside the line."""

from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, of which one has exported its student, a folder that is no run, two caches, a sweep."""
    for file in (
        "runs/r18-kd/config.toml", "runs/r18-kd/network.json", "runs/r18-none/config.toml", "runs/rest/notes",
        "runs/r18 torn/config.toml", "sweeps/rates/cells.json",
        "caches/camvid-r50-1a2b/manifest.json", "caches/voc-r50-3c4d/manifest.json", "caches/.drawing/cache",
    ):  # fmt: skip
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("not read")
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    return tmp_path


def offered(program: click.Command, typed: str) -> list[str]:
    """What a shell is told for a line whose last word is begun; what is no name has its kind before ':'."""
    *words, begun = typed.split(" ")
    items = ShellComplete(program, {}, str(program.name), "_COMPLETE").get_completions(words, begun)
    return [item.value if item.type == "plain" else f"{item.type}:{item.value}" for item in items]


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("--resume --run r", ["r18-kd", "r18-none"]),
        ("--run ", ["r18-kd", "r18-none"]),
        ("rm r", ["r18-kd", "r18-none"]),
        ("rm r18-kd r", ["r18-none"]),  # not the same one twice
        ("compare r18-n", ["r18-none"]),
        ("report r18-k", ["r18-kd"]),
        ("report --sweep r", ["rates"]),
        ("eval r", ["r18-kd"]),  # what has no student cannot be judged
        ("predict r", ["r18-kd"]),
        ("export r", ["r18-kd"]),
        ("eval r18-kd --teacher r", ["r18-kd"]),
        ("--cache cam", ["camvid-r50-1a2b"]),
        ("sweep --cache camvid-r50-1a2b,v", ["camvid-r50-1a2b,voc-r50-3c4d"]),
        ("--loss cwd+afd", ["cwd+afdcd"]),
        ("sweep --loss cwd(tau=4),afd", ["cwd(tau=4),afdcd"]),
        ("--loss cwd(ta", []),
        ("--loss cwd(tau=4,k", []),  # an option, although a loss begins so
        ("methods afd", ["afdcd"]),
        ("predict r18-kd im", ["file:im"]),
        ("eval /elsewhere/r", ["dir:/elsewhere/r"]),  # a run is also named by its folder
        ("chain --run r", []),  # names that are new
    ],
)
def test_names_are_offered_where_one_is_asked_for(typed: str, names: list[str]) -> None:
    assert offered(kdtrain, typed) == names


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("show v", ["voc-r50-3c4d"]),
        ("verify --cache v", ["voc-r50-3c4d"]),
        ("rm c", ["camvid-r50-1a2b"]),
        ("why camvid-r50-1a2b v", ["voc-r50-3c4d"]),
        ("build --teacher r", ["r18-kd"]),
        ("build --teacher r50,r", ["r50,r18-kd"]),
        ("build --for afdcd,cw", ["afdcd,cwd"]),
        ("peek key --cache v", ["voc-r50-3c4d"]),
    ],
)
def test_caches_and_teachers_are_offered_where_one_is_asked_for(typed: str, names: list[str]) -> None:
    assert offered(kdcache, typed) == names


def test_a_home_that_cannot_be_listed_offers_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (home / "runs/rest/notes", home / "not there", "~nobody-of-this-name"):
        monkeypatch.setenv("KDCACHE_HOME", str(wrong))
        assert offered(kdtrain, "rm r") == ["dir:r"] and offered(kdtrain, "report --sweep r") == ["dir:r"]
        assert offered(kdcache, "show c") == ["dir:c"]
