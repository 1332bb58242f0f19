"""A published recipe as options of a run: what the user did not write, and what a run says of it.

What was typed wins, and takes with it what only made sense beside the recipe's own choice: a length of one's
own replaces both ways to say it, another optimizer leaves the recipe's rate, another schedule its drops.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kdcache.losses.plan.recipes import Published
from kdcache.trainer.folder.option_field import flag, spelled
from kdcache.trainer.steps.options import OPTIMIZERS, SCHEDULES, StepOptions

OF_VIEWS = ("crop", "augment")  # fixed when a cache is built
_LENGTHS = ("steps", "epochs")
_OF_OPTIMIZER = ("lr", "weight_decay", "warmup_steps", *(one for k in OPTIMIZERS.values() for one in k.reads))
_OF_SCHEDULE = tuple(one for schedule in SCHEDULES.values() for one in schedule.reads)


def with_recipe(given: Mapping[str, Any], recipe: Published, *, fresh: bool) -> dict[str, Any]:
    """What the user wrote, by field name, and the recipe's options where that leaves room. `fresh`: the run
    draws its views itself."""
    out = set(given) | (set() if fresh else set(OF_VIEWS))
    if any(name in given for name in _LENGTHS):
        out |= set(_LENGTHS)
    if given.get("optimizer", recipe.options["optimizer"]) != recipe.options["optimizer"]:
        out |= set(_OF_OPTIMIZER)
    if given.get("lr_schedule", recipe.options["lr_schedule"]) != recipe.options["lr_schedule"]:
        out |= set(_OF_SCHEDULE)
    return {**{name: value for name, value in recipe.options.items() if name not in out}, **given}


def written_options(options: Mapping[str, Any]) -> str:
    """'--lr 0.02 --nesterov', as they are typed."""
    return " ".join(
        flag(n) if value is True else f"{flag(n)} {spelled(value)}" for n, value in options.items()
    )


def _instead(name: str, value: Any, options: StepOptions) -> str:
    """'--lr 0.5 instead of 0.02'; of a length also '--epochs 2 instead of --steps 40000'."""
    said, now = _said(name, options)
    before = f"{flag(name)} " if said != name else ""
    return f"{flag(said)} {'by default' if now is None else spelled(now)} instead of {before}{spelled(value)}"


def _said(name: str, options: StepOptions) -> tuple[str, Any]:
    """The option and its value; of a length the way in which the run was given it: of `epochs` follow
    `steps`."""
    if name in _LENGTHS:
        name = "steps" if options.epochs is None else "epochs"
    return name, getattr(options, name)


def recipe_lines(recipe: Published, options: StepOptions, *, loss: str, fresh: bool) -> Iterator[str]:
    """What a run under `options` has of the recipe and what it has not, for people."""
    own = {name: value for name, value in recipe.options.items() if fresh or name not in OF_VIEWS}
    same = {name: value for name, value in own.items() if _said(name, options) == (name, value)}
    other = [_instead(name, value, options) for name, value in own.items() if name not in same]
    yield f"recipe {recipe.name} ({recipe.recipe.source}) gives {written_options(same) or 'nothing'}"
    if other:
        yield f"other than recipe {recipe.name}, as you wrote: {', '.join(other)}"
    views = {name: recipe.options[name] for name in OF_VIEWS if name in recipe.options}
    if views and not fresh:
        line = f"kdcache build {written_options(views)}"
        yield f"the views are those of the cache; for those of recipe {recipe.name} build with: {line}"
    if recipe.recipe.unlike:
        yield f"not as published: {'; '.join(recipe.recipe.unlike)}"
    if not set(re.findall(r"[\w-]+", loss)) & set(recipe.recipe.losses):
        yield f"recipe {recipe.name} is of {', '.join(recipe.recipe.losses)}, and this run trains '{loss}'"
