"""Values of another type in a run's files are refused by name, in three parts."""

import json
from pathlib import Path

import pytest

from kdcache.cache.errors import BadCache, BadOption, BadWeights
from kdcache.trainer.config import TrainConfig, read_config, write_config
from kdcache.trainer.folder.environment import FILE_NAME, refuse_other_stream
from kdcache.trainer.students.exit_file import CARD, _parse


def test_a_config_comes_back_as_it_was_written(tmp_path: Path) -> None:
    config = TrainConfig(run="r", student="r18", lr=1, data="camvid:x")
    write_config(tmp_path, config, {})
    assert read_config(tmp_path) == config


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('batch_size = "many"', "an option of another type: Expected `int`, got `str`"),
        ("batch_size = [1]", "an option of another type: Expected `int`"),
        ("student = 3", "an option of another type: Expected `str"),
        ("lr = true", "an option of another type"),
        ("batch_size = 0", "--batch-size cannot be 0"),
        ("a = " + "[" * 2000 + "]" * 2000, "config.toml cannot be read"),
    ],
)
def test_an_option_of_another_type_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "config.toml").write_text(f'[options]\nrun = "r"\n{line}\n')
    with pytest.raises(BadOption) as caught:
        read_config(tmp_path)
    assert said in caught.value.what and caught.value.where and caught.value.fix


def test_options_that_are_no_table_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("options = 3\n")
    with pytest.raises(BadOption, match="'options' is no table"):
        read_config(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"stream": 3}', '{"stream": null}', "[" * 5000])
def test_a_record_of_what_a_run_began_on_that_says_nothing_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(BadCache, match="what the run began with cannot be read") as caught:
        refuse_other_stream(tmp_path, {"generation": 1})
    assert caught.value.where == str(tmp_path / FILE_NAME)


@pytest.mark.parametrize("count", ["x", 0, -1, 10**9, 1.5, None, True])
def test_exits_are_as_many_as_a_network_can_have(tmp_path: Path, count: object) -> None:
    card = {"format": 1, "form": "byot", "count": 3, "student": "s", "weights": "w"}
    (tmp_path / CARD).write_text(json.dumps(card))
    assert _parse(tmp_path / CARD).count == 3
    (tmp_path / CARD).write_text(json.dumps(card | {"count": count}))
    with pytest.raises(BadWeights, match="the description of the exits cannot be read"):
        _parse(tmp_path / CARD)
