"""A class folder that is added after a run was trained: the line that is printed trains a new teacher."""

import shlex
import shutil
from pathlib import Path

import pytest
from class_data import draw_imagefolder
from click.testing import CliRunner

from kdcache.cli.kdcache import main
from kdcache.cli.kdtrain import kdtrain

SHORT = ["--device", "cpu", "--steps", "1", "--batch-size", "2", "--log", "none", "--crop", "16"]


def test_a_class_that_is_added_is_named_with_the_line_that_trains_a_teacher_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    data = draw_imagefolder(tmp_path / "data")
    typed = ["--student", "resnet8", "--loss", "none", "--data", f"imagefolder:{data}", "--run", "t"]
    first = CliRunner().invoke(kdtrain, [*typed, *SHORT])
    assert first.exit_code == 0, first.output
    for split in (path for path in sorted(data.iterdir()) if path.is_dir()):
        shutil.copytree(sorted(p for p in split.iterdir() if p.is_dir())[0], split / "zebra")
    build = ["build", "--teacher", "t", "--device", "cpu"]
    for refused in (
        CliRunner().invoke(main, build),
        CliRunner().invoke(kdtrain, ["eval", "t", "--split", "val"]),
    ):
        assert refused.exit_code == 2 and "the data have also 'zebra'" in refused.output, refused.output
        line = refused.output.partition("as they are now: ")[2].strip()
        assert line.endswith("--run t-2")
    again = CliRunner().invoke(kdtrain, [*shlex.split(line)[1:], *SHORT])
    assert again.exit_code == 0, again.output
    built = CliRunner().invoke(main, [*build[:2], "t-2", *build[3:], "--views", "crops:1"])
    assert built.exit_code == 0, built.output
