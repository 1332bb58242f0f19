"""Losses that are none for detectors: with a reason of their own, or as methods of other tasks."""

import pytest

from kdcache.cache.spec import BadOption
from kdcache.cache.tasks.table import DETECTION
from kdcache.losses.plan.load import load_loss
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.plan.table import LOSSES

REASON = (
    "its heads score every class by a sigmoid of its own, and a softmax over the classes, blind to what is "
    "added to all of them, is the inconsistency that bckd removes"
)
ADVICE = "take bckd, which treats each class as a problem of its own: --loss bckd"
OF_DETECTION = {"bckd", "ld", "gid", "fgd", "pkd", "mgd", "gdd", "cwd", "fitnet", "at"}


@pytest.mark.parametrize("loss", ["kd", "dkd", "dist", "kd(T=4)", "bckd+kd"])
def test_a_softmax_over_classes_is_refused_with_the_reason_of_bckd(loss: str) -> None:
    name = loss.partition("(")[0].rpartition("+")[2]
    with pytest.raises(BadOption) as caught:
        parse_losses(loss, preset=None, task=DETECTION)
    assert str(caught.value).splitlines() == [
        f"'{name}' is no method for detection: {REASON}",
        f"  where: loss expression '{loss}'",
        f"  fix:   {ADVICE}",
    ]


@pytest.mark.parametrize("loss", ["at(kd=1)", "fitnet(kd=0.5)"])
def test_it_is_refused_as_a_companion_too(loss: str) -> None:
    with pytest.raises(BadOption, match="'kd' is no method for detection: its heads score every class"):
        parse_losses(loss, preset=None, task=DETECTION)


def test_what_the_refusal_advises_works() -> None:
    assert [term.name for term in parse_losses("bckd", preset=None, task=DETECTION).terms] == ["task", "bckd"]


def test_a_loss_that_does_not_name_detection_is_none() -> None:
    for name in LOSSES:
        tasks = load_loss(name, task=DETECTION, where="tests").tasks
        assert (DETECTION in tasks) == (name in OF_DETECTION), name
        if name not in OF_DETECTION:
            with pytest.raises(BadOption, match=f"'{name}' is (a|no) method for"):
                parse_losses(name, preset=None, task=DETECTION)


def test_the_others_are_refused_without_a_reason() -> None:
    with pytest.raises(BadOption) as caught:
        parse_losses("nkd", preset=None, task=DETECTION)
    assert caught.value.what == "'nkd' is a method for classification, and this is detection"


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_where_a_softmax_is_right_nothing_has_changed(task: str) -> None:
    assert [term.name for term in parse_losses("kd", preset=None, task=task).terms] == ["task", "kd"]
    assert [term.name for term in parse_losses("dist", preset=None, task=task).terms] == ["task", "dist"]


def test_the_papers_combinations_need_nothing_else() -> None:
    for loss in ("bckd+pkd", "bckd+mgd", "ld+fgd"):
        weights = {term.name: term.weight for term in parse_losses(loss, preset=None, task=DETECTION).terms}
        assert set(weights) == {"task", *loss.split("+")} and weights["task"] == 1
