"""Every method tells what it is: an entry without a source or an option without a unit helps nobody."""

import re
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner
from dense_inputs import CANVAS, GRIDS, dense_set, specs_of

from kdcache.cache.spec import BadOption
from kdcache.cache.tasks.table import DETECTION, task_of
from kdcache.cli.training.methods import markdown_recipes, markdown_table, methods
from kdcache.losses.contract import Facts, Maps
from kdcache.losses.options import written
from kdcache.losses.plan.catalogue import common_options, entries, entry
from kdcache.losses.plan.load import load_loss
from kdcache.losses.plan.plan import parse_losses
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


DETECTION_METHODS = [name for name in LOSSES if DETECTION in entry(name).tasks and name != "task"]


@pytest.mark.parametrize("name", DETECTION_METHODS)
def test_the_detectors_that_the_table_names_are_those_that_the_method_takes(name: str) -> None:
    """Each pair of student and teacher is built: no more work, and no fewer, than the table says."""
    listed = entry(name)
    named = (*listed.method.detectors, *listed.method.elsewhere)
    families = task_of(DETECTION).networks.families
    assert set(named) <= set(families) and len(set(named)) == len(named)
    expected = {
        (student, teacher)
        for student in named
        for teacher in named
        if "any teaches any" in listed.detectors
        or GRIDS[student].anchors_per_cell == GRIDS[teacher].anchors_per_cell
    }
    assert {pair for pair in product(GRIDS, GRIDS) if is_taken(name, *pair)} == expected
    assert set(GRIDS) == {family for family in families if family not in ("tv", "custom")}


def is_taken(name: str, student: str, teacher: str) -> bool:
    sides = [specs_of(GRIDS[family]) for family in (student, teacher)]
    facts = Facts(DETECTION, 5, input_size=CANVAS)
    try:
        dense_set(name, Maps(sides[0], sides[1], facts, GRIDS[student], GRIDS[teacher]))
    except BadOption:
        return False
    return True


def test_a_method_of_no_detector_names_none_and_one_of_detectors_does() -> None:
    assert {e.name for e in entries() if e.detectors} == set(DETECTION_METHODS)
    assert entry("ld").detectors == "published for gfl; teacher and student with equal anchors"
    assert entry("pkd").detectors.endswith("any teaches any whose fpn has as many channels")
    assert entry("mgd").detectors == "published for retinanet; fcos, atss, gfl: numbers ours; any teaches any"


def test_a_loss_of_detectors_alone_is_published_for_one_that_its_result_names() -> None:
    """What is said of published figures and of published detectors is of one table."""
    for name in DETECTION_METHODS:
        listed = entry(name).method
        if entry(name).tasks == (DETECTION,):
            assert any(family in listed.published.lower() for family in listed.detectors), name


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_of_the_table_says_every_task_with_what_is_read_and_the_weight(name: str) -> None:
    """Against the declarations themselves and not against the code that prints them."""
    loss_class = load_loss(name, task="segmentation", where="test") if name != "task" else None
    (row,) = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{name}`: ")]
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
    reads, weights = cells[2], cells[6]
    tasks = entry(name).tasks if loss_class is None else loss_class.tasks
    assert tuple(re.findall(r"(\w+): teacher", reads)) == tuple(tasks)
    for task in tasks:
        term = next(t for t in parse_losses(name, preset=None, task=task).terms if t.name == name)
        said = reads.partition(f"{task}: ")[2]
        own = [need.name for need in term.reads.needs]
        assert all(need in said.partition("; student")[0] for need in own), (task, own)
        assert f"{task}: {written(term.weight)}" in weights
