"""Every method tells what it is: an entry without a source or an option without a unit helps nobody."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from kdcache.cache.spec import BadOption
from kdcache.cli.methods import markdown_table, methods
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
    assert "\n".join(markdown_table(entries())) in DOCUMENT.read_text()


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
