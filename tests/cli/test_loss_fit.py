"""`kdcache show` and `kdcache build --for` offer and refuse losses by what a teacher's maps allow."""

from pathlib import Path

import pytest
from class_data import draw_npz
from click.testing import CliRunner, Result
from tiny_folder import draw_folder

from kdcache.cli.kdcache import main


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    draw_folder(tmp_path / "data", count=2)
    draw_npz(tmp_path / "small")
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


SEG = ("build", "--teacher", "tiny_teacher:make", "--data", "folder:data", "--views", "crops:1",
       "--crop", "24,32", "--device", "cpu")  # fmt: skip
CLS = ("build", "--teacher", "tiny_classifier:make", "--data", "npz:small", "--views", "crops:1",
       "--device", "cpu")  # fmt: skip


def test_show_tells_losses_that_fit_from_those_that_ask_for_a_student_or_cannot_be(home: Path) -> None:
    assert run(*SEG).exit_code == 0
    lines = run("show").output.partition("losses it can serve: ")[2].splitlines()
    assert {"none", "kd", "cwd"} <= set(lines[0].split(", ")) and "afdcd" not in lines[0]
    assert "  needs a student of maps of the same size: mgd" in lines
    assert "  not afdcd: 6 teacher channels do not split into 16 equal groups" in lines


def test_for_refuses_a_loss_that_no_student_could_read_before_anything_is_written(home: Path) -> None:
    refused = run(*SEG, "--for", "kd,afdcd")
    assert refused.exit_code == 2
    assert (
        "error: no student could be trained with 'afdcd' on this cache: 6 teacher channels do not split into "
        "16 equal groups" in refused.output
    )
    assert "where: --for afdcd, loss term 'afdcd'" in refused.output
    assert "or leave 'afdcd' out of --for" in refused.output
    assert not list((home / "caches").glob("*"))
    assert run(*SEG, "--for", "kd").exit_code == 0


def test_for_says_what_a_student_must_have_as_show_does_afterwards(home: Path) -> None:
    built = run(*SEG, "--for", "kd,mgd")
    assert built.exit_code == 0
    said = {line for line in built.output.splitlines() if "needs a student" in line}
    assert said == {"loss     mgd needs a student of maps of the same size"}, "kd asks for nothing"
    assert "  needs a student of maps of the same size: mgd" in run("show").output.splitlines()


def test_for_asks_for_the_views_that_a_loss_reads(home: Path) -> None:
    refused = run(*CLS, "--for", "sskd")
    assert refused.exit_code == 2
    assert (
        "'sskd' reads every image in four quarter turns, and this cache has no such views" in refused.output
    )
    assert "fix:   add --views turns:K, such as --views turns:2" in refused.output
    turned = ["turns:2" if word == "crops:1" else word for word in CLS]
    assert run(*turned, "--augment", "pad=4,flip", "--for", "sskd,crd").exit_code == 0
    served = run("show").output.partition("losses it can serve: ")[2]
    assert "sskd" in served and "crd" in served and "\n  not kd-topk: k=5 of 3 classes\n" in served
