"""`kdtrain --config FILE`: the options of a file, under those that were typed."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from kdcache.cache.errors import BadOption, Missing
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.config import TrainConfig, read_config, read_options_file, write_config
from kdcache.trainer.folder.start import with_file


def file_of(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_config_of_a_run_starts_the_same_run_under_another_name(tmp_path: Path) -> None:
    old = TrainConfig(
        run="old", loss="cwd(tau=2)", student="mbv2", cache="c", epochs=3.0, steps=77, lr=0.1, seed=4,
        lr_schedule="multistep", milestones=(0.5, 0.75),
    )  # fmt: skip
    write_config(tmp_path, old, {"note": "for people"})
    given = with_file({"run": "new"}, tmp_path / "config.toml", resume=False)
    assert "steps" not in given, "epochs say how long it is"
    new = TrainConfig(**given)
    assert {**new.to_dict(), "run": "old", "steps": 77} == old.to_dict() == read_config(tmp_path).to_dict()
    assert "run" not in read_options_file(tmp_path / "config.toml")


def test_what_was_typed_wins_and_takes_its_opposite_along(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        'loss = "kd"\nstudent = "r18"\ndata = "camvid:d"\naugment = "flip"\nsteps = 9\nlr = 0.5\n'
        'weights = "imagenet"\nseed = 3\n',
    )
    assert with_file({"seed": 1}, path, resume=False)["seed"] == 1
    assert with_file({}, path, resume=False)["seed"] == 3
    stored = with_file({"cache": "c"}, path, resume=False)
    assert "data" not in stored and "augment" not in stored and stored["steps"] == 9
    assert "steps" not in with_file({"epochs": 2.0}, path, resume=False)
    assert "weights" not in with_file({"init": "r"}, path, resume=False)
    recipe = with_file({"recipe": "kd"}, path, resume=False)
    assert not {"lr", "steps", "augment"} & set(recipe) and recipe["loss"] == "kd"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--loss", "none"], ""),
        (["--cache", "c", "--seed", "4"], "data, augment"),
        (["--cache", "c", "--augment", "none"], "data"),
        (["--epochs", "2"], "steps"),
    ],
)
def test_what_is_not_taken_over_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: list[str], said: str
) -> None:
    text = 'data = "camvid:d"\naugment = "flip"\nsteps = 9\nseed = 3\nlr_schedule = "poly"\n'
    path = file_of(tmp_path, text + f"batch_size = {TrainConfig(run='r').batch_size}\n")
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    words = ["--config", str(path), *typed]
    output = " ".join(CliRunner().invoke(kdtrain, words).output.split())  # there are no data
    line = f"of mine.toml not taken over, beside what you wrote: {said}"
    assert output.partition(" error: ")[0] == line if said else "not taken over" not in output
    assert "not taken over" not in CliRunner().invoke(kdtrain, [*words, "--quiet"]).output


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ('los = "kd"', "unknown option 'los'", "did you mean 'loss'?"),
        ('lr = "fast"', "mine.toml holds an option of another type", "repair the file"),
        ("lr = -1.0", "--lr cannot be -1.0", "give a number above 0"),
        ("lr = ", "mine.toml cannot be read", "repair the file"),
        ('options = "kd"', "'options' is no table", "repair the file"),
        ('student = "somebody.net:make"', "'somebody.net:make': code of somebody's own", "if you trust it"),
        ('data = "somebody.data:Images:d"', "'somebody.data:Images': code of somebody's own", "trust it"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, what: str, fix: str) -> None:
    with pytest.raises(BadOption) as caught:
        with_file({}, file_of(tmp_path, text), resume=False)
    assert what in caught.value.what and fix in caught.value.fix


def test_code_that_was_typed_needs_no_second_word(tmp_path: Path) -> None:
    path = file_of(tmp_path, 'student = "somebody.net:make"\nlr = 0.5\n')
    assert with_file({"student": "r18"}, path, resume=False) == {"student": "r18", "lr": 0.5}


def test_no_file_and_a_run_that_goes_on_are_said(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="there is no such file") as caught:
        with_file({}, tmp_path / "none.toml", resume=False)
    assert caught.value.fix == "name a TOML file of options"
    with pytest.raises(BadOption, match="--config with --resume") as refused:
        with_file({}, file_of(tmp_path, ""), resume=True)
    assert "leave --config out, or start another run with --run NEW_NAME" in refused.value.fix
