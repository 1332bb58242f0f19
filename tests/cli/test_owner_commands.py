"""The owner's two commands, as written, once a run named r101 exists; downloads answered from a file."""

import itertools
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tiny_folder import CLASSES, draw_folder

from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.files import downloads
from kdcache.cache.networks.run_card import RunCard, save_run_network
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.reporter import Reporter

STEPS_BEFORE_CTRL_C = 2


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run r101 (of a small network: its name is what counts) on six drawn images."""
    draw_folder(tmp_path / "data")
    draw_folder(tmp_path / "data", count=2, split="val")
    torch.manual_seed(0)
    teacher = build_network(
        "deeplabv3:test_resnet",
        task="segmentation",
        num_classes=3,
        output_stride=16,
        weights="none",
        role="student",
    )
    card = RunCard(
        network=teacher.config.to_dict(),
        weights_digest="",
        data=f"folder:{tmp_path / 'data'}",
        class_names=CLASSES,
        crop=(64, 64),
        output_stride=16,
        metrics={},
    )
    save_run_network(tmp_path / "runs" / "r101", teacher, card)
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_build_then_train_as_the_owner_writes_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = CliRunner().invoke(kdcache, ["build", "--teacher", "r101"], catch_exceptions=False)
    assert built.exit_code == 0, built.output
    assert "teacher 'r101' is the run" in built.output and "48 teacher rows" in built.output

    import timm

    make = timm.create_model

    def offline(name: str, *given: object, pretrained: bool = False, **options: object) -> object:
        return make(name, *given, **options)

    monkeypatch.setattr(downloads.timm, "create_model", offline)
    steps = itertools.count(1)
    add = Reporter.add

    def stop_after_two(self: Reporter, *given: object) -> None:
        add(self, *given)  # type: ignore[arg-type]
        if next(steps) == STEPS_BEFORE_CTRL_C:
            raise KeyboardInterrupt

    monkeypatch.setattr(Reporter, "add", stop_after_two)
    trained = CliRunner().invoke(kdtrain, ["--loss", "afdcd"], catch_exceptions=False)
    assert trained.exit_code == 130, trained.output
    for shown in ("deeplabv3:resnet18", "afdcd", "kd", "stage4", "40000"):
        assert shown in trained.output, trained.output
    run = home / "runs" / "r18-afdcd"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert {"afdcd.fd", "afdcd.ctr", "kd"} <= set(lines[0]["loss"])


def test_a_teacher_without_a_trained_head_prints_the_line_to_run_first(home: Path) -> None:
    result = CliRunner().invoke(kdcache, ["build", "--teacher", "r50", "--data", f"folder:{home / 'data'}"])
    assert result.exit_code == 2
    assert "kdtrain --loss none --student r50 --run r50" in result.output


def test_looking_at_a_cache(home: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(kdcache, ["build", "--teacher", "r101", "--views", "crops:2"]).exit_code == 0
    shown = runner.invoke(kdcache, ["show"]).output
    for part in ("r101", "folder", "stage4", "logits", "int8", "crops 64x64", "afdcd"):
        assert part in shown, shown
    assert "0 damaged" in runner.invoke(kdcache, ["verify", "--deep"], catch_exceptions=False).output
    peeked = runner.invoke(kdcache, ["peek", "scene03", "--out", "p.png"], catch_exceptions=False)
    assert "teacher" in peeked.output and (home / "p.png").read_bytes().startswith(b"\x89PNG")
    listed = runner.invoke(kdcache, ["taps", "--teacher", "r101"], catch_exceptions=False).output
    assert "stage4" in listed and "logits" in listed
    wrong = runner.invoke(kdcache, ["peek", "scene3"])
    assert wrong.exit_code == 2 and "did you mean 'scene03'?" in wrong.output


def test_verify_reports_damage_with_exit_status_1(home: Path) -> None:
    runner = CliRunner()
    runner.invoke(kdcache, ["build", "--teacher", "r101", "--views", "crops:2"])
    tar = next(home.rglob("samples/00000.tar"))
    tar.write_bytes(tar.read_bytes()[:-600])
    result = runner.invoke(kdcache, ["verify"])
    assert result.exit_code == 1 and "samples/00000.tar" in result.output and "--repair" in result.output
    repaired = runner.invoke(kdcache, ["build", "--repair"], catch_exceptions=False)
    assert repaired.exit_code == 0 and runner.invoke(kdcache, ["verify"]).exit_code == 0


def advised(*words: str) -> list[str]:
    """The line that a refused command says to type, behind the program's name."""
    refused = CliRunner().invoke(kdcache, ["build", *words])
    assert refused.exit_code == 2, refused.output
    (line,) = re.findall(r"(?:if you trust it|that holds them now): (.*)", refused.output)
    return shlex.split(line)[1:]


def test_data_that_were_moved_are_named_by_the_line_that_every_build_prints(home: Path) -> None:
    words = ["build", "--teacher", "r101", "--views", "crops:1", "--tap", "logits"]
    assert CliRunner().invoke(kdcache, words).exit_code == 0
    (cache,) = (home / "caches").iterdir()
    for number, typed in enumerate(([], ["--teacher", "r101"], ["--cache", cache.name], ["--repair"])):
        where = home / f"place{number}"
        (home / "data" if number == 0 else home / f"place{number - 1}").rename(where)
        line = advised(*typed)
        assert line[:-2] == ["build", *typed, *([] if "--cache" in typed else ["--cache", cache.name])]
        assert line[-2:] == ["--data", "folder:DIR"]
        built = CliRunner().invoke(kdcache, [*line[:-1], f"folder:{where}"], catch_exceptions=False)
        assert built.exit_code == 0 and list((home / "caches").iterdir()) == [cache], built.output


def test_a_teacher_that_was_named_by_a_path_is_typed_as_printed(home: Path) -> None:
    path, more = str(home / "runs" / "r101"), ["--views", "crops:1", "--tap", "logits"]
    assert CliRunner().invoke(kdcache, ["build", "--teacher", path, *more]).exit_code == 0
    (cache,) = (home / "caches").iterdir()
    line = advised()
    assert line == ["build", "--cache", cache.name, "--teacher", path]
    again = CliRunner().invoke(kdcache, line, catch_exceptions=False)
    assert again.exit_code == 0 and "nothing to do" in again.output


def test_for_names_losses_and_keeps_commas_inside_parentheses(home: Path) -> None:
    result = CliRunner().invoke(
        kdcache, ["build", "--teacher", "r101", "--views", "crops:1", "--for", "cwd(tau=4,weight=3),kd"]
    )
    assert result.exit_code == 0, result.output
    assert "tap      logits" in result.output and "tap      stage4" not in result.output
    missing = CliRunner().invoke(kdtrain, ["--loss", "mgd", "--weights", "none"])
    assert (
        missing.exit_code == 2
        and "kdcache build --cache" in missing.output
        and "--tap stage4" in missing.output
    )
