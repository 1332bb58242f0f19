"""`--out`: what cannot be written is said before any work, and nobody gets folders instead of a file."""

import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from kdcache.cache.errors import Refused
from kdcache.cli.kdtrain import kdtrain
from kdcache.cli.shared import folder_of

OUT = "what is written/deeper/file"


def typed(*words: str) -> Result:
    return CliRunner().invoke(kdtrain, list(words))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    return tmp_path


def test_a_report_of_nothing_leaves_no_folder(home: Path) -> None:
    refused = typed("report", "none-of-this-name", "--out", str(home / OUT))
    assert refused.exit_code == 2 and "no run 'none-of-this-name'" in refused.stderr
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("option", ["--out", "--json"])
def test_figures_of_a_run_that_cannot_be_judged_leave_no_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    there: list[bool] = []

    def judge(*_: object) -> None:
        there.append((home / OUT).parent.is_dir())
        raise click.UsageError("it cannot be judged")

    monkeypatch.setattr("kdcache.cli.kdtrain._judged", judge)
    assert typed("eval", "--exported", "x", option, str(home / OUT)).exit_code == 2
    assert there == [True], "made before the work, or its absence is said after an hour"
    assert list(home.iterdir()) == []


def test_what_was_there_or_came_meanwhile_is_left(home: Path) -> None:
    (home / "what is written").mkdir()
    with pytest.raises(ZeroDivisionError), folder_of(home / OUT):
        raise ZeroDivisionError
    assert [path.name for path in home.rglob("*")] == ["what is written"]
    with pytest.raises(KeyboardInterrupt), folder_of(home / OUT):
        (home / OUT).with_name("of another").touch()
        raise KeyboardInterrupt
    assert (home / OUT).with_name("of another").is_file()


def test_a_file_that_is_written_stays_with_its_folder(home: Path) -> None:
    with folder_of(home / OUT):
        (home / OUT).touch()
    assert [path.name for path in (home / OUT).parent.iterdir()] == ["file"], "and nothing beside it"


def test_a_folder_that_stops_half_way_is_taken_back(home: Path) -> None:
    long = home / "new" / ("n" * 300) / "file"
    with pytest.raises(Refused, match="no file system takes so long a name"), folder_of(long):
        pytest.fail("the work began")
    assert list(home.iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize("out", ["/proc/file", "/proc/new/file"])
def test_a_place_that_takes_no_files_is_said_before_the_work(out: str) -> None:
    """Whoever runs this, root too, makes nothing there."""
    with pytest.raises(Refused) as caught, folder_of(Path(out)):
        pytest.fail("the work began")
    said = str(caught.value)
    assert "'file' could not be written" in said and f"\n  where: {out}\n  fix:   " in said


def test_a_pipe_and_a_device_are_written_into(home: Path) -> None:
    for out in ("/dev/null", "/dev/stdout"):
        with folder_of(Path(out)):
            pass
