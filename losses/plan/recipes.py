"""Recipes of whole runs, as published scripts have them: `kdtrain --recipe NAME`, or NAME@DATASET.

A recipe holds options of `kdtrain` by the names of their fields, and nothing that its source does not say:
what a script leaves open keeps its default. Milestones are shares of the run (150 of 240 epochs is 0.625).
Weights and temperatures of the losses stand with each method and in presets.py. `source` names the project
and commit whose training script, or where no script says it whose README, was read; `unlike` says what that
script does and these options do not. `imagenet` is no source's name: write `mdistiller@imagenet`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kdcache.cache.spec import BadOption, unknown
from kdcache.losses.plan.table import LOSSES

Value = bool | int | float | str | tuple[float, ...]
Options = Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Options on every data set, and for each data set what holds there besides or instead."""

    source: str
    losses: tuple[str, ...]  # methods whose published numbers come from it
    options: Options
    datasets: Mapping[str, Options]
    unlike: tuple[str, ...] = ()


class Published(NamedTuple):
    """A recipe on one data set."""

    name: str  # 'afdcd@camvid'
    recipe: Recipe
    options: Options


_TENTHS = "scales are drawn between these bounds, there in steps of 0.1"
_RATE_FOR_SMALL = "MobileNetV2 and ShuffleNet start there at a rate of 0.01"
_CIRKD: Options = {
    "optimizer": "sgd", "lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4, "lr_schedule": "poly",
    "poly_power": 0.9, "warmup_steps": 0, "steps": 40_000, "batch_size": 16, "augment": "scale=0.5x2,flip",
}  # fmt: skip
_CROPS: Mapping[str, Options] = {
    "camvid": {"crop": (360, 360)},
    "cityscapes": {"crop": (512, 1024)},
    "voc": {"crop": (512, 512)},
    "ade20k": {"crop": (512, 512)},
    "cocostuff": {"crop": (512, 512), "steps": 80_000},
}
_SKDS: Options = {
    "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "lr_schedule": "poly",
    "poly_power": 0.9, "steps": 40_000, "batch_size": 8, "augment": "scale=0.7x2.1,flip",
}  # fmt: skip
_MMSEG: Options = {
    "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "lr_schedule": "poly",
    "poly_power": 0.9, "steps": 40_000, "batch_size": 16, "augment": "scale=0.5x2,flip",
}  # fmt: skip
_SQUARE: Mapping[str, Options] = {"cityscapes": {"crop": (512, 512)}}
_MMSEG_UNLIKE = (
    "the rate ends there at 1e-4, here at 0",
    "PhotoMetricDistortion and cat_max_ratio 0.75 are left out",
)
_CIFAR_240: Options = {
    "optimizer": "sgd", "lr": 0.05, "weight_decay": 5e-4, "lr_schedule": "multistep",
    "milestones": (0.625, 0.75, 0.875), "lr_drop": 0.1, "epochs": 240.0, "batch_size": 64,
}  # fmt: skip
_ON_CIFAR: Mapping[str, Options] = {"cifar10": {}, "cifar100": {}}

RECIPES: Mapping[str, Recipe] = {
    "afdcd": Recipe(
        source="arXiv 2312.04168; OSVAI/Af-DCD 5b086a7, train_ocmgd.py, train_scripts/",
        losses=("afdcd",), options=_CIRKD, datasets=_CROPS, unlike=(_TENTHS,),
    ),
    "cirkd": Recipe(
        source="arXiv 2204.06986; winycg/CIRKD 2d8ad0f, train_cirkd.py",
        losses=("cirkd",), options=_CIRKD, datasets=_CROPS, unlike=(_TENTHS,),
    ),
    "skds": Recipe(
        source="arXiv 1903.04197; irfanICMLL/structure_knowledge_distillation ce208e1, run_train_val.sh",
        losses=("skds", "skds-pixel", "skds-pair", "skds-holistic"), options=_SKDS, datasets=_SQUARE,
        unlike=(_TENTHS,),
    ),
    "cwd": Recipe(
        source="arXiv 2011.13256; irfanICMLL/TorchDistiller 78bac7c, SemSeg-distill/exp_cwd.sh",
        losses=("cwd",), options=_SKDS, datasets=_SQUARE, unlike=(_TENTHS,),
    ),
    "ifvd": Recipe(
        source="doi 10.1007/978-3-030-58571-6_21; YukangWang/IFVD 950a7a5",
        losses=("ifvd",), options=_SKDS, datasets=_SQUARE, unlike=(_TENTHS,),
    ),
    "mgd": Recipe(
        source="arXiv 2205.01529; yzd-v/MGD 2c9da0b, 8 GPUs x 2 images",
        losses=("mgd",), options=_MMSEG, datasets=_SQUARE, unlike=_MMSEG_UNLIKE,
    ),
    "gdd": Recipe(
        source="arXiv 2401.08332; ZhgLiu/GDD a0fa7ca, 2 images per GPU and 2 GPUs in the README",
        losses=("gdd",), options={**_MMSEG, "batch_size": 4}, datasets=_SQUARE,
        unlike=(*_MMSEG_UNLIKE, "how many GPUs the published numbers took is not known, nor is the batch"),
    ),
    "repdistiller": Recipe(
        source="arXiv 1910.10699; HobbitLong/RepDistiller b84f547, run_cifar_distill.sh",
        losses=("kd", "fitnet", "at", "rkd", "crd"), options={**_CIFAR_240, "momentum": 0.9},
        datasets={"cifar100": {}}, unlike=(_RATE_FOR_SMALL,),
    ),
    "mdistiller": Recipe(
        source="arXiv 2203.08679; megvii-research/mdistiller a08d46f",
        losses=("kd", "dkd", "reviewkd"),
        options={
            "optimizer": "sgd", "lr": 0.2, "weight_decay": 1e-4, "lr_schedule": "multistep",
            "milestones": (0.3, 0.6, 0.9), "epochs": 100.0, "batch_size": 512,
        },
        datasets={"imagenet": {}},
    ),
    "tfkd": Recipe(
        source="arXiv 1909.11723; yuanli2333/Teacher-free-Knowledge-Distillation d000ab3",
        losses=("tfkd-self", "tfkd-reg", "label-smoothing"),
        options={
            "optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "lr_schedule": "multistep",
            "milestones": (0.3, 0.6, 0.8), "lr_drop": 0.2, "warmup_steps": 391, "epochs": 200.0,
            "batch_size": 128,
        },
        datasets={"cifar100": {}},
        unlike=("with another --batch-size the rate is 0.1 x batch / 128, and the warm-up of one epoch has "
                "50000 / batch steps",),
    ),
    "sskd": Recipe(
        source="arXiv 2006.07114; xuguodong03/SSKD 661b972, student.py",
        losses=("sskd",), options=_CIFAR_240, datasets={"cifar100": {}}, unlike=(_RATE_FOR_SMALL,),
    ),
    "sskd-head": Recipe(
        source="arXiv 2006.07114; xuguodong03/SSKD 661b972, teacher.py: stage=head",
        losses=("sskd",),
        options={
            "optimizer": "sgd", "lr": 0.05, "lr_schedule": "multistep", "milestones": (0.5, 0.75),
            "lr_drop": 0.1, "epochs": 60.0,
        },
        datasets={"cifar100": {}},
    ),
    "byot": Recipe(
        source="arXiv 1905.08094; luanyunteng/pytorch-be-your-own-teacher 8045079 (a port)",
        losses=("byot",),
        options={
            "optimizer": "sgd", "lr": 0.1, "weight_decay": 5e-4, "lr_schedule": "multistep",
            "milestones": (0.375, 0.65, 0.9), "lr_drop": 0.1, "epochs": 200.0, "batch_size": 128,
        },
        datasets={"cifar100": {}},
    ),
    "okddip": Recipe(
        source="arXiv 1912.00350; DefangChen/OKDDip-AAAI2020 c6a05de",
        losses=("okddip", "one", "cl-ilr", "dml"),
        options={
            "optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4,
            "lr_schedule": "multistep", "milestones": (0.5, 0.75), "lr_drop": 0.1, "epochs": 300.0,
            "batch_size": 128,
        },
        datasets=_ON_CIFAR,
    ),
    "dafl": Recipe(
        source="arXiv 1904.01186; huawei-noah/Data-Efficient-Model-Compression 5e8f4e4, DAFL/",
        losses=("dafl",),
        options={
            "optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "lr_schedule": "multistep",
            "milestones": (0.4, 0.8), "lr_drop": 0.1, "steps": 240_000, "batch_size": 1024,
        },
        datasets=_ON_CIFAR,
    ),
    "bckd": Recipe(
        source="arXiv 2308.14286; TinyTigerPan/BCKD 121c9aa, configs/bckd/",
        losses=("bckd",),
        options={
            "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "lr_schedule": "multistep",
            "milestones": (8 / 12, 11 / 12), "warmup_steps": 500, "epochs": 12.0, "batch_size": 16,
            "augment": "fit=1,flip",
        },
        datasets={"coco": {}},
        unlike=("images are fitted there into 1333x800; a canvas for both orientations is --crop 1344,1344",
                "the warm-up begins there at 0.001 of the rate, here at 1 / 500"),
    ),
}  # fmt: skip


def recipe_names(loss: str | None = None) -> Iterator[str]:
    """'afdcd@camvid' and so on, all of them or those of one method."""
    for name, recipe in RECIPES.items():
        if loss is None or loss in recipe.losses:
            yield from (f"{name}@{dataset}" for dataset in recipe.datasets)


def published(text: str, dataset: str | None) -> Published:
    """The recipe of 'NAME@DATASET', or of 'NAME' on the data set of the run, whose source is called
    `dataset`.

    Raises BadOption for an unknown name, which lists those that exist, and for a data set without numbers.
    """
    check_recipe(text)
    name, at, chosen = text.partition("@")
    where = f"--recipe {text}"
    recipe, on = RECIPES[name], chosen if at else dataset or ""
    if on not in recipe.datasets:
        there = " or ".join(f"--recipe {name}@{one}" for one in recipe.datasets)
        raise BadOption(
            f"recipe '{name}' has no numbers for '{on}'", where=where, fix=f"take another data set's: {there}"
        )
    return Published(f"{name}@{on}", recipe, {**recipe.options, **recipe.datasets[on]})


def check_recipe(text: str) -> None:
    """Raises BadOption for a name that is no recipe's, whatever the data set."""
    name = text.partition("@")[0]
    if name not in RECIPES:
        raise _no_recipe(name, f"--recipe {text}")


def _no_recipe(name: str, where: str) -> BadOption:
    """A method without a recipe of its own name may be in another one, or in none."""
    if name in LOSSES:
        others = [one for one, recipe in RECIPES.items() if name in recipe.losses]
        what = f"no recipe is called '{name}'"
        if others:
            return BadOption(what, where=where, fix=f"'{name}' is in: {', '.join(others)}")
        fix = "give the options one by one; 'kdtrain methods' lists the recipes that exist"
        return BadOption(f"{what}: of this method no training script was read", where=where, fix=fix)
    return unknown("recipe", name, RECIPES, where=where)
