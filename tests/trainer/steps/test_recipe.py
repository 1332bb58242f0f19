"""A recipe gives a run what the user did not write, and says what is and what is not as published."""

from typing import Any

import pytest

from kdcache.losses.plan.recipes import published
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.steps.recipe import recipe_lines, with_recipe

AFDCD, TFKD = published("afdcd@camvid", None), published("tfkd@cifar100", None)
OKDDIP = published("okddip@cifar10", None)


def test_what_was_not_written_comes_from_the_recipe() -> None:
    given = with_recipe({"student": "r18"}, AFDCD, fresh=True)
    assert given == {"student": "r18", **AFDCD.options}


@pytest.mark.parametrize(
    ("recipe", "typed", "gone"),
    [
        (AFDCD, {"lr": 0.5}, ()),
        (AFDCD, {"epochs": 3.0}, ("steps",)),
        (TFKD, {"steps": 7}, ("epochs",)),
        (AFDCD, {"optimizer": "adamw"}, ("lr", "weight_decay", "momentum", "warmup_steps")),
        (OKDDIP, {"optimizer": "adamw"}, ("lr", "weight_decay", "momentum", "nesterov")),
        (OKDDIP, {"lr_schedule": "cosine"}, ("milestones", "lr_drop")),
        (AFDCD, {"lr_schedule": "cosine"}, ("poly_power",)),
    ],
)
def test_what_was_written_wins_and_takes_its_companions_with_it(
    recipe: Any, typed: dict[str, Any], gone: tuple[str, ...]
) -> None:
    given = with_recipe(typed, recipe, fresh=True)
    assert given == {**{k: v for k, v in recipe.options.items() if k not in gone}, **typed}
    TrainConfig(run="r", data="folder:x", **given)  # legal together


def test_stored_views_are_not_the_recipes_to_choose() -> None:
    assert {"crop", "augment"} & set(with_recipe({}, AFDCD, fresh=False)) == set()


def test_a_run_says_what_is_as_published() -> None:
    config = TrainConfig(run="r", data="folder:x", loss="afdcd", **AFDCD.options)  # type: ignore[arg-type]
    lines = list(recipe_lines(AFDCD, config, loss="afdcd", fresh=True))
    assert lines == [
        "recipe afdcd@camvid (arXiv 2312.04168; OSVAI/Af-DCD 5b086a7, train_ocmgd.py, train_scripts/) gives "
        "--optimizer sgd --lr 0.02 --momentum 0.9 --weight-decay 0.0001 --lr-schedule poly --poly-power 0.9 "
        "--warmup-steps 0 --steps 40000 --batch-size 16 --augment scale=0.5x2,flip --crop 360,360",
        "not as published: scales are drawn between these bounds, there in steps of 0.1",
    ]


def test_a_run_says_what_was_written_what_the_cache_decided_and_that_it_trains_another_method() -> None:
    options = with_recipe({"lr": 0.5, "epochs": 2.0}, AFDCD, fresh=False)
    config = TrainConfig(run="r", cache="c", loss="kd", **options)
    lines = list(recipe_lines(AFDCD, config, loss="kd", fresh=False))
    assert "--lr 0.02" not in lines[0] and "--crop" not in lines[0] and "--batch-size 16" in lines[0]
    assert lines[1] == "other than recipe afdcd@camvid, as you wrote: --lr 0.5 instead of 0.02, " \
        "--epochs 2 instead of --steps 40000"  # fmt: skip
    assert lines[2] == (
        "the views are those of the cache; for those of recipe afdcd@camvid build with: "
        "kdcache build --crop 360,360 --augment scale=0.5x2,flip"
    )
    assert lines[-1] == "recipe afdcd@camvid is of afdcd, and this run trains 'kd'"
    own = TrainConfig(run="r", cache="c", loss="dkd+afdcd@voc(kd=0)", **options)
    assert "and this run" not in " ".join(recipe_lines(AFDCD, own, loss=own.loss, fresh=False))
    of_kd, dkd = published("repdistiller", "cifar100"), TrainConfig(run="r", data="folder:x", loss="dkd")
    assert list(recipe_lines(of_kd, dkd, loss="dkd", fresh=True))[-1].endswith("and this run trains 'dkd'")


def test_a_switch_is_written_as_it_is_typed() -> None:
    config = TrainConfig(run="r", data="folder:x", **OKDDIP.options)  # type: ignore[arg-type]
    (line, *_) = recipe_lines(OKDDIP, config, loss="one", fresh=True)
    assert " --nesterov --weight-decay 0.0005 " in line
