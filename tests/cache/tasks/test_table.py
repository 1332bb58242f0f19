"""The tasks by name: each complete, none by default, none instead of another."""

import pytest

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.names import SHORT_NAMES, known_names, parse_name
from kdcache.cache.tasks.table import (
    CLASSIFICATION,
    SEGMENTATION,
    load,
    read_task,
    task_names,
    task_of,
    task_row,
    written,
)
from kdcache.cache.views.recipe import parse_recipe
from kdcache.cache.views.sets import parse_views


@pytest.mark.parametrize("name", task_names())
def test_what_a_task_names_is_there(name: str) -> None:
    kind = task_of(name)
    assert kind.name == name
    for path in kind.networks.families.values():
        assert callable(load(path))
    for text in (*known_names(name), *SHORT_NAMES):
        assert parse_name(text, task=name).family in kind.networks.families
    recipe = parse_recipe("", kind.recipes)
    assert parse_recipe(recipe.text, kind.recipes) == recipe
    assert parse_views(kind.default_views, crop=(8, 8), seed=0, mirror=False, augment=recipe)


def test_a_task_says_either_a_stride_or_why_there_is_none() -> None:
    for name in task_names():
        rules = task_of(name).networks
        assert (rules.default_stride is None) == bool(rules.no_stride)


def test_an_unknown_task_is_an_error_and_never_another_one() -> None:
    for ask in (task_of, task_row, lambda name: read_task({"task": name}, where="a record")):
        with pytest.raises(BadOption, match="unknown task 'segmentatoin'") as caught:
            ask("segmentatoin")
        assert "did you mean 'segmentation'" in caught.value.fix
    with pytest.raises(BadOption, match="'7' is no task"):
        read_task({"task": 7}, where="a record")


def test_records_name_every_task_but_the_one_of_before() -> None:
    assert written(SEGMENTATION) == {} and written(CLASSIFICATION) == {"task": CLASSIFICATION}
    for name in task_names():
        assert read_task(written(name), where="a record") == name
