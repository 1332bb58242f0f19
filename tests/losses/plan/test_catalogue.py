"""Every method tells what it is: an entry without a source or an option without a unit helps nobody."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from kdcache.cache.spec import BadOption
from kdcache.cli.methods import markdown_recipes, markdown_table, methods
from kdcache.losses.plan.catalogue import common_options, entries, entry
from kdcache.losses.plan.table import LOSSES

DOCUMENT = Path(__file__).parents[3] / "docs" / "methods.md"


@pytest.mark.parametrize("name", LOSSES)
def test_every_method_names_its_source_and_what_each_option_means(name: str) -> None:
    listed = entry(name)
    assert re.search(r"https://\S+|arXiv", listed.method.source), "no link to a paper"
    assert listed.method.code and listed.method.cacheable and listed.method.published
    assert listed.method.cacheable.startswith(("yes", "no"))
    assert [row.name for row in listed.options if not row.about] == []


def test_every_schedule_says_its_unit() -> None:
    assert all("epoch" in row.about for row in common_options() if row.name not in ("weight", "decay_to"))


def test_the_table_in_the_document_is_what_the_command_prints() -> None:
    document = DOCUMENT.read_text()
    assert "\n".join(markdown_table(entries())) in document and "\n".join(markdown_recipes()) in document


def test_the_command_shows_the_recipes_of_a_method_and_names_those_of_a_task() -> None:
    shown = CliRunner(env={"COLUMNS": "1000"}).invoke(methods, ["cwd"]).output
    (line,) = [line for line in shown.splitlines() if "cwd@cityscapes" in line]
    assert "--lr 0.01 " in line and "--crop 512,512 (arXiv 2011.13256; irfanICMLL/TorchDistiller" in line
    assert line.endswith("not as published: scales are drawn between these bounds, there in steps of 0.1)")
    assert re.search(r"recipes +none", CliRunner().invoke(methods, ["fgd"]).output)
    listed = CliRunner().invoke(methods, ["--task", "classification"]).output
    assert "kdtrain --recipe NAME: mgd, repdistiller, mdistiller, tfkd, sskd" in listed


def test_the_command_shows_one_method_with_defaults_and_units() -> None:
    answer = CliRunner().invoke(methods, ["afdcd"])
    assert answer.exit_code == 0
    for text in ("arxiv.org/abs/2312.04168", "tau", "0.07", "temperature", "lambda_fd", "4e-05", "warmup"):
        assert text in answer.output


def test_the_table_can_be_cut_to_one_task() -> None:
    answer = CliRunner().invoke(methods, ["--task", "classification"])
    assert "crd" in answer.output and "cirkd" not in answer.output


def test_a_name_that_is_no_method_is_told_with_the_nearest() -> None:
    with pytest.raises(BadOption, match="unknown loss 'afdc'.*\n.*kdtrain methods afdc\n.*'afdcd'"):
        entry("afdc")
