"""The class behind a name: its task is asked for and checked, and no task stands in for another."""

import inspect
from collections.abc import Callable

import pytest

from kdcache.cache.spec import BadOption
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION, TASKS, task_names
from kdcache.losses.contract import LossTerm
from kdcache.losses.logits.kd import KD
from kdcache.losses.plan.load import load_loss
from kdcache.losses.plan.plan import needs_of, parse_losses
from kdcache.losses.plan.table import TASK


@pytest.mark.parametrize("task", task_names())
def test_the_supervised_loss_is_the_one_of_the_task_alone(task: str) -> None:
    loss_class = load_loss(TASK, task=task, where="tests")
    assert loss_class.tasks == (task,)
    assert loss_class.__module__ == f"kdcache.losses.supervised.{task}"


def test_a_method_is_one_class_for_all_its_tasks() -> None:
    assert {load_loss("kd", task=task, where="tests") for task in task_names()} == {KD}


@pytest.mark.parametrize("name", ["task", "kd", "afdcd", "kdcache.losses.logits.kd:KD"])
def test_an_unknown_task_is_refused_by_name_whatever_is_loaded(name: str) -> None:
    with pytest.raises(BadOption) as caught:
        load_loss(name, task="segmentatio", where="here")
    assert caught.value.what == "unknown task 'segmentatio'"
    assert caught.value.where == "here"
    assert caught.value.fix == "did you mean 'segmentation'? legal: classification, detection, segmentation"


@pytest.mark.parametrize("resolve", [lambda text, task: parse_losses(text, preset=None, task=task), needs_of])
@pytest.mark.parametrize("expression", ["none", "task(weight=2)", "kd", "cirkd", "dml", "kd+task(weight=0)"])
def test_an_expression_for_an_unknown_task_is_refused_by_name(
    resolve: Callable[..., object], expression: str
) -> None:
    with pytest.raises(BadOption) as caught:
        resolve(expression, task="depth")
    assert caught.value.what == "unknown task 'depth'"
    assert caught.value.where == f"loss expression '{expression}'"


@pytest.mark.parametrize("function", [load_loss, parse_losses, needs_of])
def test_nothing_has_a_default_task(function: Callable[..., object]) -> None:
    parameter = inspect.signature(function).parameters["task"]
    assert parameter.default is inspect.Parameter.empty and parameter.kind is parameter.KEYWORD_ONLY


def test_a_loss_that_says_nothing_does_not_claim_a_task_that_comes_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(TASKS, "depth", TASKS[SEGMENTATION])
    assert LossTerm.tasks == KD.tasks == (SEGMENTATION, CLASSIFICATION)
    with pytest.raises(
        BadOption, match="'kd' is a method for segmentation and classification, and this is d"
    ):
        parse_losses("kd", preset=None, task="depth")
