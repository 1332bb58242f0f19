"""A recipe's text means one thing, comes back in one form, and what cannot be is refused in words."""

import pytest

from kdcache.cache.errors import BadOption
from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION, task_of
from kdcache.cache.views.recipe import Recipe, parse_recipe

EVERYTHING = (
    "rrc=0.2,flip,randaugment=2x9,jitter=0.4x0.4x0.4x0.1,erase=0.5,mixup=0.2,cutmix=1"  # in canonical order
)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("pad=4,flip", "pad=4,flip"),
        ("flip,pad=4", "pad=4,flip"),
        ("rrc", "rrc=0.08"),
        ("rrc=0.080,flip", "rrc=0.08,flip"),
        ("jitter=0.4", "jitter=0.4x0.4x0.4x0"),
        (EVERYTHING, EVERYTHING),
        ("none", "none"),
        ("", "none"),
    ],
)
def test_equal_recipes_of_classification_have_equal_texts(text: str, canonical: str) -> None:
    rules = task_of(CLASSIFICATION).recipes
    recipe = parse_recipe(text, rules)
    assert recipe.text == canonical and parse_recipe(canonical, rules) == recipe


@pytest.mark.parametrize(
    ("text", "recipe"),
    [
        ("", Recipe(scale=(0.5, 2.0), flip=True)),
        ("none", Recipe(scale=(1.0, 1.0))),
        ("flip", Recipe(scale=(1.0, 1.0), flip=True)),
        ("scale=0.75x1.5,jitter=0.3", Recipe(scale=(0.75, 1.5), jitter=(0.3, 0.3, 0.3, 0.0))),
    ],
)
def test_segmentation_always_crops(text: str, recipe: Recipe) -> None:
    assert parse_recipe(text, task_of(SEGMENTATION).recipes) == recipe


@pytest.mark.parametrize(
    ("text", "task", "message", "fix"),
    [
        ("mixup=0.2", SEGMENTATION, "segmentation cannot have mixup", "scale, flip, jitter"),
        ("rrc,randaugment=2x9", SEGMENTATION, "cannot have rrc, randaugment: labels of pixels", "jitter=0.4"),
        ("pad=4,erase=0.5", SEGMENTATION, "segmentation cannot have pad, erase", "scale, flip, jitter"),
        ("scale=0.5x2", CLASSIFICATION, "scale belongs to segmentation", "use rrc"),
        ("mixupp=0.2", CLASSIFICATION, "unknown augmentation 'mixupp'", "did you mean 'mixup'"),
        ("flip,flip", CLASSIFICATION, "flip twice", "once"),
        ("rrc,pad=4", CLASSIFICATION, "rrc and pad both choose what is shown", "keep one"),
        ("none,flip", CLASSIFICATION, "unknown augmentation 'none'", "'none' alone|legal"),
        ("pad", CLASSIFICATION, "'pad' takes 1..1000", "pad=N"),
        ("pad=2.5", CLASSIFICATION, "'pad=2.5' takes", "pad=N"),
        ("mixup=0", CLASSIFICATION, "'mixup=0' takes 0.01..2", "mixup=ALPHA"),
        ("jitter=0.4x0.4", CLASSIFICATION, "'jitter=0.4x0.4' takes 0..2 and", "jitter=BxCxSxH"),
        ("jitter=0.4x0.4x0.4x0.6", CLASSIFICATION, "and 0..0.5", "jitter=BxCxSxH"),
        ("randaugment=2x31", CLASSIFICATION, "takes 1..14 and 0..30", "randaugment=NxM"),
        ("erase=nan", CLASSIFICATION, "'erase=nan' takes", "erase=P"),
        ("flip=1", CLASSIFICATION, "'flip=1' takes no number", "flip"),
        ("scale=2x0.5", SEGMENTATION, "'scale=2x0.5' ends below its start", "scale=LOWxHIGH"),
    ],
)
def test_what_cannot_be_is_refused_naming_the_way_out(text: str, task: Task, message: str, fix: str) -> None:
    with pytest.raises(BadOption) as caught:
        parse_recipe(text, task_of(task).recipes)
    assert message in caught.value.what and f"--augment {text}" in caught.value.where
    assert any(part in caught.value.fix for part in fix.split("|"))
