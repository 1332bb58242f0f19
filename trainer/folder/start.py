"""The configuration of a run, new or continued, and every name in it, before anybody waits for torch.

Steps: the options' own checks -> names of loss, networks, recipe and data, which nothing that lies on a disk
could make right -> the data or the cache that is meant -> the recipe of its data set -> the run's name.
Light: the command line asks here first, so that a typo is answered at once; `trainer/run.py` asks the same
again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.names import TEACHER, check_name, check_teacher, is_library
from kdcache.cache.record.find import caches_dir, find_cache, runs_dir, stored_cache
from kdcache.cache.record.manifest import read_manifest
from kdcache.cache.sources.table import check_data, own_name, split_spec, task_of_data
from kdcache.cache.trust import names_in, require_trust
from kdcache.losses.plan.recipes import check_recipe, published
from kdcache.losses.plan.written import check_expression
from kdcache.trainer.config import (
    TrainConfig,
    check_config_seal,
    merge_for_resume,
    read_config,
    read_options_file,
)
from kdcache.trainer.folder.home import absolute_spec, cache_label, default_run_name, find_run
from kdcache.trainer.folder.run_folder import CONFIG_NAME, check_free
from kdcache.trainer.steps.options import StepOptions, check_one_length
from kdcache.trainer.steps.recipe import with_recipe
from kdcache.trainer.stream.options import StreamOptions

Options = TypeVar("Options", bound=StreamOptions)


def configured(given: Mapping[str, Any], home: Path, *, resume: bool) -> TrainConfig:
    """The configuration of a run whose folder is there to continue, or free. Raises KdError."""
    config = continued(given, home) if resume else started(given, home)
    if not resume:
        check_free(runs_dir(home) / config.run)
    return config


def started(given: Mapping[str, Any], home: Path) -> TrainConfig:
    """The configuration of a new run, its data or cache and its name decided."""
    check_one_length(given)
    options = TrainConfig(**{"run": "unnamed", **given})
    check_names(options, home)
    config = resolve_run_source(options, home)
    if config.recipe:
        recipe = published(config.recipe, dataset_of(config, home))
        chosen = with_recipe(given, recipe, fresh=config.data is not None)
        config = resolve_run_source(TrainConfig(**{"run": "unnamed", **chosen}), home)
    return replace(config, run=given.get("run") or _name(config))


def continued(given: Mapping[str, Any], home: Path) -> TrainConfig:
    """The stored configuration of a run, checked against what the user wrote now."""
    name = given.get("run") or _name(started(given, home))
    stored = read_config(runs_dir(home) / name)
    check_config_seal(runs_dir(home) / name)
    now = {key: value for key, value in given.items() if key != "run"}
    for option in ("data", "val_data"):
        if now.get(option):
            now[option] = absolute_spec(now[option])
    if now.get("cache"):
        now["cache"] = cache_label(home, find_cache(now["cache"], caches_dir(home)))
    merged = merge_for_resume(stored, now, where=str(runs_dir(home) / name))
    _require_consent(stored, given, runs_dir(home) / name / CONFIG_NAME)
    return merged


def with_file(
    given: Mapping[str, Any],
    path: Path,
    *,
    resume: bool,
    left_out: Callable[[Sequence[str]], None] = lambda names: None,
) -> dict[str, Any]:
    """What the user wrote, over the options of a TOML file; a run's own `config.toml` is one.

    What was typed takes with it what only made sense beside the file's own choice: another source of pixels,
    another length, a recipe. Code that the file names needs consent. `left_out` hears of what nobody typed
    and the file chose in vain, if there is any. Raises BadOption, Missing.
    """
    if resume:
        raise BadOption(
            "--config with --resume: a run goes on under the options that it began with",
            where=f"--config {path}",
            fix="leave --config out, or start another run with --run NEW_NAME",
        )
    read = read_options_file(path)
    _require_trust_in(read, given, path)
    out: set[str] = set()
    for group in (("data", "cache"), ("steps", "epochs"), ("init", "weights")):
        out |= set(group) if any(name in given for name in group) else set()
    if "data" in given or "cache" in given:
        out |= {"crop", "augment"}
    if "recipe" in given:
        out |= {one.name for one in fields(StepOptions)} | {"crop", "augment"}
    defaults = {one.name: one.default for one in fields(TrainConfig)}
    chosen = (name for name, value in read.items() if value != defaults[name])
    if vain := [name for name in chosen if name in out and name not in given]:
        left_out(vain)
    return {**{name: value for name, value in read.items() if name not in out}, **given}


def _require_trust_in(read: Mapping[str, Any], given: Mapping[str, Any], path: Path) -> None:
    """Raises BadOption for code that a file names and that nobody typed."""
    words = [str(read[name]) for name in ("student", "loss", "teacher") if name in read and name not in given]
    named = [name for name in names_in(words) if not is_library(name)]
    sources = [str(read.get(name) or "") for name in ("data", "val_data") if name not in given]
    named += [name for name in map(own_name, sources) if name]
    require_trust(named, where=str(path))


def check_names(options: TrainConfig, home: Path) -> None:
    """Raises BadOption for a loss, an option of it, a network, a recipe or a data set that nobody has, and
    Missing for data that are not there."""
    check_expression(options.loss)
    if options.recipe:
        check_recipe(options.recipe)
    task = None if options.data is None else task_of_data(options.data)
    check_name(options.student, task, f"--student {options.student}")
    if options.teacher:
        check_teacher(options.teacher, task, runs_dir(home), TEACHER)
    for spec in (options.data, options.val_data):
        if spec is not None:
            check_data(spec)


def check_asked(run: str, home: Path, *, data: str | None, teacher: str | None) -> None:
    """The same of what a run is judged on, and of a teacher beside it. Raises Missing for no such run."""
    find_run(home, run)
    task = None if data is None else task_of_data(data)
    if teacher:
        check_teacher(teacher, task, runs_dir(home), TEACHER)
    if data is not None:
        check_data(data)


def resolve_run_source(options: Options, home: Path) -> Options:
    """Options with `--data` and `--val-data` made absolute, or `--cache` set to the cache that is meant.

    Raises Missing, BadOption.
    """
    if options.val_data:
        options = replace(options, val_data=absolute_spec(options.val_data))
    if options.data:
        return replace(options, data=absolute_spec(options.data))
    return replace(options, cache=cache_label(home, find_cache(options.cache, caches_dir(home))))


def dataset_of(options: StreamOptions, home: Path) -> str:
    """What settings are published for: the name of the source, of options that `resolve_run_source` made.

    Raises KdError for a cache that cannot be read.
    """
    if options.data:
        return split_spec(options.data)[0]
    return str(read_manifest(stored_cache(options.cache, caches_dir(home))).data["name"])


def _require_consent(stored: TrainConfig, given: Mapping[str, Any], path: Path) -> None:
    """Raises BadOption for code that the stored options of a run name and that the user did not write
    again."""
    read = {name: str(getattr(stored, name) or "") for name in ("student", "loss", "teacher")}
    unsaid = [value for name, value in read.items() if str(given.get(name) or "") != value]
    named = [name for name in names_in(unsaid) if not is_library(name)]
    named += [name for name in map(own_name, (stored.data, stored.val_data)) if name]
    require_trust(named, where=str(path))


def _name(config: TrainConfig) -> str:
    fresh = config.data is not None
    return default_run_name(config.student, config.loss, fresh=fresh, online=config.online, seed=config.seed)
