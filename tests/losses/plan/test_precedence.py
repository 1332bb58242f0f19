"""Who wins where several say what a term is: defaults, task, dataset, expression, two methods at once."""

import pytest

from kdcache.cache.spec import BadOption, Task
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION, task_names
from kdcache.losses.plan.expression import parse_expression
from kdcache.losses.plan.load import load_loss
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.plan.table import LOSSES
from kdcache.losses.plan.term import TermPlan


def term(expression: str, name: str, *, task: Task, preset: str | None = None) -> TermPlan:
    plan = parse_losses(expression, preset=preset, task=task)
    return next(one for one in plan.terms if one.name == name)


def test_quotes_around_a_value_are_not_part_of_it() -> None:
    assert parse_expression("""kd(form='skds',T="4")""")[0].options == {"form": "skds", "T": "4"}


def test_what_is_written_wins_over_what_was_published_for_the_dataset() -> None:
    chosen = term("afdcd(lambda_ctr=1)", "afdcd", preset="camvid", task=SEGMENTATION).options
    assert (chosen["lambda_ctr"], chosen["lambda_fd"]) == (1.0, 8e-6)


def test_what_was_published_for_the_dataset_wins_over_the_method_s_setting_for_the_task() -> None:
    assert term("dkd", "dkd", task=CLASSIFICATION).schedule.warmup == 20
    assert term("dkd@imagenet", "dkd", task=CLASSIFICATION).schedule.warmup == 1


def test_a_companion_has_the_form_of_the_task_that_it_is_trained_on() -> None:
    brought = term("at(kd=1)", "kd", task=CLASSIFICATION)
    assert (brought.options["form"], brought.options["T"], brought.weight) == ("repdistiller", 4.0, 1.0)
    assert brought.companion_of == "at"


def test_a_companion_that_two_methods_bring_alike_counts_once() -> None:
    plan = parse_losses("afdcd+cirkd", preset=None, task=SEGMENTATION)
    assert [one.name for one in plan.terms] == ["task", "afdcd", "kd", "cirkd"]
    assert "the companion kd of afdcd and cirkd counts once" in plan.notes


def test_two_methods_that_bring_different_companions_are_asked_which_is_meant() -> None:
    with pytest.raises(BadOption, match="afdcd brings .* and cirkd brings ") as caught:
        parse_losses("afdcd(kd=0.5)+cirkd", preset=None, task=SEGMENTATION)
    assert caught.value.fix == "name the one you want: ...+kd(weight=0.5)"


def test_beside_a_method_with_its_own_cross_entropy_there_is_no_other() -> None:
    plan = parse_losses("label-smoothing+kd", preset=None, task=CLASSIFICATION)
    assert [one.name for one in plan.terms] == ["label-smoothing", "kd"]


@pytest.mark.parametrize(
    ("expression", "restored"),
    [("kd(stop=5)+dkd(stop=9)", 9), ("kd(stop=5)+dkd", 0), ("kd+dkd", 0), ("kd(stop=5)", 5)],
)
def test_the_task_loss_has_its_full_weight_back_when_the_last_method_is_dropped(
    expression: str, restored: float
) -> None:
    assert term(expression, "task", task=CLASSIFICATION).schedule.restore == restored


def test_an_optional_need_is_read_where_the_teacher_has_it() -> None:
    plan = parse_losses("dist", preset=None, task=SEGMENTATION)
    assert [need.name for need in plan.given(["logits", "aux"]).needs] == ["logits", "aux"]
    assert [need.name for need in plan.given(["logits"]).needs] == ["logits"]


@pytest.mark.parametrize("name", LOSSES)
def test_a_name_of_the_table_is_the_class_in_the_file_of_that_name(name: str) -> None:
    for task in task_names():
        module = load_loss(name, task=task, where="tests").__module__
        assert module.rpartition(".")[2] == name.replace("-", "_")
