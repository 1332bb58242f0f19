"""Recipes of published scripts: their numbers once more, written down from shared/specs, and nothing besides.

'seg 6' is section 6 of segmentation-losses.md, 'cls 2.1' section 2.1 of classification-detection-losses.md,
'det 1' part 1 of it.
"""

import math

import pytest

from kdcache.cache.errors import BadOption
from kdcache.cache.sources.table import SOURCES
from kdcache.losses.plan.recipes import RECIPES, published, recipe_names
from kdcache.losses.plan.table import LOSSES
from kdcache.trainer.config import TrainConfig

POLY = dict(optimizer="sgd", momentum=0.9, lr_schedule="poly", poly_power=0.9)
CIRKD = dict(**POLY, lr=0.02, weight_decay=1e-4, warmup_steps=0, batch_size=16, augment="scale=0.5x2,flip")
SKDS = dict(**POLY, lr=0.01, weight_decay=5e-4, batch_size=8, augment="scale=0.7x2.1,flip", steps=40_000,
            crop=(512, 512))  # fmt: skip
MMSEG = dict(**POLY, lr=0.01, weight_decay=5e-4, augment="scale=0.5x2,flip", steps=40_000, crop=(512, 512))
SIZES = {"camvid": (360, 360), "cityscapes": (512, 1024), "voc": (512, 512), "ade20k": (512, 512),
         "cocostuff": (512, 512)}  # fmt: skip
MULTI = dict(optimizer="sgd", lr_schedule="multistep")


def drops(total: int, *epochs: int) -> dict[str, object]:
    return dict(MULTI, epochs=total, milestones=tuple(epoch / total for epoch in epochs))


PUBLISHED: dict[str, dict[str, object]] = {
    **{  # seg 6, first column
        f"{name}@{data}": dict(CIRKD, crop=crop, steps=80_000 if data == "cocostuff" else 40_000)
        for name in ("afdcd", "cirkd")
        for data, crop in SIZES.items()
    },
    **{f"{name}@cityscapes": SKDS for name in ("skds", "cwd", "ifvd")},  # second
    "mgd@cityscapes": dict(MMSEG, batch_size=8 * 2),  # third
    "gdd@cityscapes": dict(MMSEG, batch_size=2 * 2),
    "repdistiller@cifar100": dict(  # cls 2.1
        drops(240, 150, 180, 210), lr_drop=0.1, lr=0.05, momentum=0.9, weight_decay=5e-4, batch_size=64
    ),
    "mdistiller@imagenet": dict(drops(100, 30, 60, 90), lr=0.2, weight_decay=1e-4, batch_size=512),
    "tfkd@cifar100": dict(  # cls 2.5
        drops(200, 60, 120, 160), lr_drop=0.2, lr=0.1, momentum=0.9, weight_decay=5e-4, batch_size=128,
        warmup_steps=math.ceil(50_000 / 128),
    ),
    "sskd@cifar100": dict(  # cls 2.8
        drops(240, 150, 180, 210), lr_drop=0.1, lr=0.05, weight_decay=5e-4, batch_size=64
    ),
    "sskd-head@cifar100": dict(drops(60, 30, 45), lr_drop=0.1, lr=0.05),
    "byot@cifar100": dict(  # cls 2.6
        drops(200, 75, 130, 180), lr_drop=0.1, lr=0.1, weight_decay=5e-4, batch_size=128
    ),
    **{
        f"okddip@{data}": dict(  # cls 2.7
            drops(300, 150, 225), lr_drop=0.1, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4,
            batch_size=128,
        )
        for data in ("cifar10", "cifar100")
    },
    **{
        f"dafl@{data}": dict(  # cls 2.9: 2000 epochs of 120 steps
            MULTI, milestones=(800 / 2000, 1600 / 2000), lr_drop=0.1, lr=0.1, momentum=0.9, weight_decay=5e-4,
            batch_size=1024, steps=2000 * 120,
        )
        for data in ("cifar10", "cifar100")
    },
    "bckd@coco": dict(  # det 1
        drops(12, 8, 11), lr=0.01, momentum=0.9, weight_decay=1e-4, batch_size=8 * 2, warmup_steps=500,
        augment="fit=1,flip",
    ),
}  # fmt: skip


def test_every_recipe_is_written_down_here() -> None:
    assert sorted(recipe_names()) == sorted(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_has_the_numbers_of_its_script_and_no_others(name: str) -> None:
    one = published(name, None)
    assert one.name == name and one.options == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_run_can_have_every_recipe(name: str) -> None:
    """Each option exists and is legal beside the others."""
    config = TrainConfig(run="r", data="folder:x", **PUBLISHED[name])  # type: ignore[arg-type]
    assert config.base_lr == PUBLISHED[name]["lr"]


def test_methods_data_sets_and_sources_exist() -> None:
    for recipe in RECIPES.values():
        assert recipe.losses and set(recipe.losses) <= set(LOSSES)
        assert set(recipe.datasets) <= set(SOURCES) | {"imagenet"}
        assert recipe.source.startswith(("arXiv ", "doi ")) and "; " in recipe.source


def test_the_data_set_of_the_run_chooses_and_another_can_be_named() -> None:
    assert published("afdcd", "voc").options["crop"] == (512, 512)
    assert published("afdcd@camvid", "voc").name == "afdcd@camvid"


@pytest.mark.parametrize(
    ("text", "dataset", "said"),
    [
        ("afdc", "voc", "unknown recipe 'afdc'\n  where: --recipe afdc\n"
         "  fix:   did you mean 'afdcd'? legal: "),
        ("skds", "voc", "recipe 'skds' has no numbers for 'voc'\n  where: --recipe skds\n"
                        "  fix:   take another data set's: --recipe skds@cityscapes"),
        ("okddip@voc", "cifar10", "recipe 'okddip' has no numbers for 'voc'\n  where: --recipe okddip@voc\n"
                                  "  fix:   take another data set's: --recipe okddip@cifar10 or "
                                  "--recipe okddip@cifar100"),
        ("crd", "cifar100", "no recipe is called 'crd'\n  where: --recipe crd\n"
                            "  fix:   'crd' is in: repdistiller"),
        ("fgd", "coco", "no recipe is called 'fgd': of this method no training script was read\n"
                        "  where: --recipe fgd\n  fix:   give the options one by one; 'kdtrain methods' "
                        "lists the recipes that exist"),
    ],
)  # fmt: skip
def test_a_recipe_that_does_not_exist_is_answered_with_what_does(text: str, dataset: str, said: str) -> None:
    with pytest.raises(BadOption) as error:
        published(text, dataset)
    assert str(error.value).startswith(said)
    if text == "afdc":
        assert str(error.value).endswith(", ".join(sorted(RECIPES)))
