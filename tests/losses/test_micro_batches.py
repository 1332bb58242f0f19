"""Which losses give another step when the batch is split: by their numbers, and by what they say."""

import re
from pathlib import Path

import method_inputs
import pytest
import torch
from batch_split import is_the_same, whole_and_split
from click.testing import CliRunner
from method_inputs import CASES
from term_inputs import build_term, classified, vectors

from kdcache.cache.tasks.table import DETECTION, task_names
from kdcache.cli.training.methods import methods
from kdcache.losses.contract import LossTerm
from kdcache.losses.plan.load import load_loss
from kdcache.losses.plan.table import LOSSES, TASK

FORMS = (  # beside the defaults: those of another reduction or another normalisation
    "segmentation/kd(form=skds)",
    "segmentation/kd(form=ifvd)",
    "classification/kd(form=okddip)",
    "segmentation/fitnet(form=repdistiller)",
    "segmentation/fitnet(form=lenscloth)",
    "segmentation/fitnet(form=original)",
    "segmentation/cwd(norm=spatial)",
    "segmentation/cwd(norm=channel_mean)",
    "segmentation/skds-pair(form=cirkd)",
    "classification/dml(form=paper)",
    "classification/dml(form=okddip)",
    "classification/okddip(form=students)",
    "classification/byot(form=archiplab)",
)
TASKS = tuple(f"{task}/{TASK}" for task in task_names())
SAME_FORMS = (  # of losses that are the same for every split but for one form, which they name
    *(f"segmentation/kd{form}" for form in ("", "(form=ifvd)")),
    "classification/kd",
    "classification/kd(form=okddip)",
    *(f"segmentation/fitnet{form}" for form in ("", "(form=lenscloth)", "(form=original)")),
)


def _class_of(case: str) -> type[LossTerm]:
    task, _, expression = case.partition("/")
    return load_loss(expression.partition("(")[0], task=task, where="tests")


def _is_the_same(case: str) -> bool:
    return is_the_same(*whole_and_split(case, case.partition("/")[2].partition("(")[0]))


def _says_something() -> set[type[LossTerm]]:
    every = {_class_of(case) for case in (*CASES, *TASKS, "classification/dafl")}
    return {loss for loss in every if loss.per_micro_batch}


def test_the_losses_that_differ_are_those_that_say_so() -> None:
    differ = {_class_of(case) for case in (*CASES, *FORMS, *TASKS) if not _is_the_same(case)}
    assert differ | {_class_of("classification/dafl")} == _says_something()


@pytest.mark.parametrize("case", SAME_FORMS)
def test_a_loss_that_names_one_form_is_the_same_in_its_others(case: str) -> None:
    assert _is_the_same(case)


def test_a_fixed_mask_leaves_the_contrast_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(method_inputs.OPTIONS, "segmentation/afdcd", "(groups=4,mask=fixed)")
    assert _is_the_same("segmentation/afdcd")


def test_the_balance_of_invented_images_is_that_of_each_micro_batch() -> None:
    """DAFL's generator has no batch to split: what it minimises, on logits of four images."""
    given = vectors({"logits": 5, "embedding": 3}, rows=4)
    inputs = classified({"logits": given["logits"]}, given, labels=(0, 1, 2, 3))
    facts = method_inputs.Facts("classification", 5, input_size=(8, 8))
    term = build_term("dafl", inputs, facts=facts)

    def balance(rows: slice) -> torch.Tensor:
        loss = term.generator_loss(given["logits"][rows], given["embedding"][rows])["balance"]  # type: ignore[operator]
        value: torch.Tensor = loss.value.detach()
        return value

    halves = (balance(slice(0, 2)) + balance(slice(2, 4))) / 2
    assert abs(float(balance(slice(0, 4)) - halves)) > 1e-3


@pytest.mark.parametrize("loss", sorted(_says_something(), key=lambda one: one.__module__))
def test_the_docstring_says_the_same(loss: type[LossTerm]) -> None:
    said = " ".join((loss.__doc__ or "").split())
    assert f"Defined per micro batch: {loss.per_micro_batch}." in said


def test_every_other_docstring_says_nothing_of_it() -> None:
    others = {_class_of(case) for case in (*CASES, *TASKS)} - _says_something()
    assert [loss for loss in others if "per micro batch" in " ".join((loss.__doc__ or "").split())] == []


def test_the_command_shows_it_where_there_is_something_to_say() -> None:
    runner = CliRunner(env={"COLUMNS": "200"})
    assert re.search(r"per micro batch +masks are drawn\s", runner.invoke(methods, ["mgd"]).output)
    assert "per micro batch" not in runner.invoke(methods, ["cwd"]).output


def test_the_document_excepts_every_loss_that_says_so_and_no_other() -> None:
    document = " ".join((Path(__file__).parents[2] / "docs" / "training.md").read_text().split())
    (listed,) = re.findall(r"the terms ([^.]*?); and the task loss of detection", document)
    says = {name for name in LOSSES if load_loss(name, task=DETECTION, where="tests").per_micro_batch}
    assert sorted(re.findall(r"`([a-z-]+)`", listed)) == sorted(says)
    supervised = {task: load_loss(TASK, task=task, where="tests").per_micro_batch for task in task_names()}
    assert [task for task, reason in supervised.items() if reason] == [DETECTION]
