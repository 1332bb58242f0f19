"""What a name means on each task, and what is said where it means nothing."""

import pytest

from kdcache.cache.spec import BadOption
from kdcache.losses.plan.plan import parse_losses


def weights(expression: str, task: str) -> dict[str, float]:
    return {t.name: t.weight for t in parse_losses(expression, preset=None, task=task).terms}


def test_kd_means_each_benchmark_s_own_form() -> None:
    assert weights("kd", "segmentation") == {"task": 1, "kd": 1}
    assert weights("kd", "classification") == {"task": 0.1, "kd": 0.9}
    term = parse_losses("kd", preset=None, task="classification").terms[1]
    assert (term.options["T"], term.options["form"]) == (4.0, "repdistiller")


def test_methods_that_disagree_on_the_task_loss_leave_it_at_one_and_say_so() -> None:
    plan = parse_losses("kd+dist", preset=None, task="classification")
    assert plan.terms[0].weight == 1
    assert any("published weights of the task loss differ (kd 0.1, dist 1)" in note for note in plan.notes)


def test_a_method_of_another_task_is_refused() -> None:
    with pytest.raises(BadOption, match="'cirkd' is a method for segmentation, and this is classification"):
        parse_losses("cirkd", preset=None, task="classification")


def test_two_forms_of_a_student_cannot_be_trained_at_once() -> None:
    with pytest.raises(BadOption, match="one and byot train different forms of a student"):
        parse_losses("one+byot", preset=None, task="classification")


def test_a_cross_entropy_that_a_method_holds_is_not_counted_twice() -> None:
    assert "task" not in weights("label-smoothing+kd", "classification")


def test_published_settings_of_a_dataset_hold_for_classifiers_too() -> None:
    def options(preset: str | None) -> tuple[object, object]:
        (term,) = (
            t for t in parse_losses("nkd", preset=preset, task="classification").terms if t.name == "nkd"
        )
        return term.options["T"], term.options["gamma"]

    assert options("cifar100") == (3.0, 3.5) and options(None) == (1.0, 1.5)
    dkd = parse_losses("dkd@imagenet", preset="imagefolder", task="classification").terms[1]
    assert (dkd.options["T"], dkd.options["beta"], dkd.schedule.warmup) == (1.0, 0.5, 1.0)
