"""Every default that the help of a command states is the one that the code uses.

Each statement is read from the option's help, which is made from the field of a section, and compared both
with the number written here and with what the code does: a default that slips takes its help along. An option
with a default that nobody compares is an error here.
The tables of methods: test_method_defaults.py; sentences of documents: tests/test_documented_defaults.py.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from kdcache.cache.build.options import BuildOptions
from kdcache.cache.build.size import MAX_SHARD_BYTES
from kdcache.cache.files.sizes import parse_size
from kdcache.cache.look.teacher import network_for_listing
from kdcache.cache.look.verify import deep_check
from kdcache.cache.networks.build import build_network
from kdcache.cache.sources.table import SOURCES
from kdcache.cache.tasks.table import CLASSIFICATION, DETECTION, SEGMENTATION, task_of
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.run import evaluate_run

TRAIN = {field.name: field.default for field in fields(TrainConfig)}
BUILD = {field.name: field.default for field in fields(BuildOptions)}
JUDGE = {name: one.default for name, one in inspect.signature(evaluate_run).parameters.items()}
# Statements in words, about what data, cache or network decide: the code's value is then None.
IN_WORDS = {
    "cache": "the only one",
    "val_data": "the data trained on",
    "views": "by --data/--cache",
    "crop": "the dataset's or the cache's",
    "augment": "the dataset's own",
    "pixel_memory": "2G, at most a quarter of the free memory",
    "weights": "the backbone's imagenet; for classification none",
    "freeze": "stem+stage1 for detecting with pretrained weights, otherwise none",
    "output_stride": "the cached teacher's, otherwise 8",
    "aux": "on for segmenting ResNets",
    "sync_bn": "on for several GPU processes",
    "eval_every": "only at the end",
}
# What the help of training states in numbers and names.
TRAINS_WITH = {
    "student": "r18",
    "loss": "none",
    "seed": "0",
    "stream": "auto",
    "steps": "40000",
    "batch_size": "16",
    "accumulate": "1",
    "optimizer": "sgd",
    "lr": "0.02 for sgd, 0.0002 for adamw",
    "weight_decay": "0.0001 for sgd, 0.01 for adamw",
    "momentum": "0.9",
    "encoder_lr": "1",
    "lr_schedule": "poly",
    "poly_power": "0.9",
    "milestones": "0.625,0.75,0.875",
    "lr_drop": "0.1",
    "warmup_steps": "0",
    "non_finite": "stop",
    "device": "auto",
    "amp": "no",
    "threads": "1",
    "rank_timeout": "1800",
    "save_every": "1000",
    "log": "tensorboard",
}
# What the help of `kdcache build` states.
BUILDS_WITH = {
    "split": "train",
    "taps": "stage4, logits; classification: embedding, logits; detection: cls, box",
    "views": "crops:8; detection: fit --mirror",
    "augment": "the dataset's",
    "crop": IN_WORDS["crop"],
    "target_format": "zarr",
    "batch_size": "the cache's; of a new one by a short trial",
    "amp": "the cache's; of a new one no",
    "device": "auto",
    "shard_rows": "auto",
    "memory": "4G",
    "threads": "1",
    "rank_timeout": "1800.0",
    "output_stride": "the run's, else 8",
    "seed": "the cache's; of a new one 0",
}
NO_OPTION_OF_A_RUN = {"run", "resume", "trust", "config", "quiet", "as_json"}  # nor defaults of anything
TINY = "deeplabv3:test_resnet"


def stated(parameter: click.Parameter) -> str | None:
    """'sgd' of an option whose help ends in '[sgd]', '[default: sgd]', or is completed by click."""
    text = re.search(r"\[(?:default: )?([^\[\]]+)\]$", getattr(parameter, "help", None) or "")
    if getattr(parameter, "show_default", None):
        assert text is None, f"{parameter.name} states its default twice"
        return str(parameter.default)
    return text[1] if text else None


def statements(command: click.Command) -> dict[str, str]:
    return {str(p.name): text for p in command.params if (text := stated(p)) is not None}


def spelled(value: object) -> str:
    """As an option is written: 0.02, 0.625,0.75,0.875, sgd."""
    if isinstance(value, tuple):
        return ",".join(spelled(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def per_optimizer(value: Callable[[TrainConfig], float]) -> str:
    each = {name: value(TrainConfig(run="r", optimizer=name)) for name in ("sgd", "adamw")}
    return ", ".join(f"{spelled(number)} for {name}" for name, number in each.items())


def of_training(name: str) -> str:
    """What the help must state for an option of `TrainConfig`, by what the code does."""
    if name in ("lr", "weight_decay"):
        assert TRAIN[name] is None
        return per_optimizer(lambda config: config.base_lr if name == "lr" else config.decay)
    if name in IN_WORDS:
        assert TRAIN[name] is None, f"{name} is not decided later"
        return IN_WORDS[name]
    return spelled(TRAIN[name])


def of_building(name: str) -> str:
    """What the help must state for an option of `kdcache build`, by what the code does."""
    kinds = [task_of(task) for task in (SEGMENTATION, CLASSIFICATION, DETECTION)]
    seg, cls, det = (", ".join(kind.default_taps) for kind in kinds)
    crops, of_classes, fitted = (kind.views_said for kind in kinds)
    assert crops == of_classes
    special = {
        "views": f"{crops}; detection: {fitted}",
        "taps": f"{seg}; classification: {cls}; detection: {det}",
        "target_format": "zarr",  # what is written then: test_build_as_typed.py
        "device": "auto",  # of the command alone; test_build_as_typed.py
        "output_stride": "the run's, else 8",
        "crop": IN_WORDS["crop"],
        "augment": "the dataset's",
        "amp": "the cache's; of a new one no",  # test_build_as_typed.py
        "seed": "the cache's; of a new one 0",  # tests/cache/build/test_build_views.py
        "batch_size": "the cache's; of a new one by a short trial",  # tests/cache/build/test_kept_forward.py
    }
    if name == "shard_rows":
        assert BUILD[name] is None
        return "auto"
    if name == "rank_timeout":
        return str(BUILD[name])
    if name == "memory":
        (option,) = [p for p in kdcache.commands["build"].params if p.name == name]
        assert parse_size(str(option.default), "--memory") == BUILD["memory_bytes"]
        return str(option.default)
    assert name not in special or BUILD[name] in (None, (), "cpu"), name
    return special.get(name) or spelled(BUILD[name])


def test_every_default_that_kdtrain_states_is_the_one_it_trains_with() -> None:
    told = statements(kdtrain)
    assert told.pop("run") == "from student and loss"
    assert told == {**IN_WORDS, **TRAINS_WITH} == {name: of_training(name) for name in told}
    silent = {p.name for p in kdtrain.params} - set(told) - NO_OPTION_OF_A_RUN
    assert {name: TRAIN[name] for name in silent if TRAIN[name] not in (None, False)} == {}


def test_every_default_that_kdtrain_chain_states_is_the_one_it_trains_with() -> None:
    told = statements(kdtrain.commands["chain"])
    views = told.pop("build_views")
    assert (told.pop("loss"), told.pop("run"), views) == ("kd", "chain", BUILDS_WITH["views"])
    assert told == {name: of_training(name) for name in told}
    decided_here = {"cache", "views", "student", "loss"}
    assert told == {k: v for k, v in {**IN_WORDS, **TRAINS_WITH}.items() if k not in decided_here}


def test_a_chain_without_loss_and_name_distils_with_kd_in_runs_that_begin_with_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    typed = ["chain", "r18", "r34", "--dry-run", "--data", f"demo:{tmp_path / 'drawn'}"]
    monkeypatch.setattr("kdcache.trainer.chain.open_source", lambda *_: SOURCES["folder"])
    lines = CliRunner().invoke(kdtrain, typed, catch_exceptions=False).output.splitlines()
    first, build, second = (line[2:] for line in lines if line.startswith("$ "))
    assert "--run chain-r18-none" in first and "--loss none" in first
    assert build == "kdcache build --teacher chain-r18-none --for kd"
    assert "--run chain-r18-r34-kd" in second and "--loss kd" in second


def test_every_default_that_kdtrain_eval_states_is_the_one_it_judges_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = statements(kdtrain.commands["eval"])
    assert told.pop("data") == "what the run was judged on, else trained on"
    assert told == {"split": "val", "device": "auto", "threads": "1"}
    asked: dict[str, Any] = {}

    def judge(run: str, **given: Any) -> None:
        asked.update(given)
        raise KeyboardInterrupt

    monkeypatch.setattr("kdcache.trainer.run.evaluate_run", judge)
    monkeypatch.setattr("kdcache.trainer.folder.start.check_asked", lambda *_, **__: None)
    CliRunner().invoke(kdtrain, ["eval", "r"])
    assert asked["data"] is None and told == {name: spelled(asked[name]) for name in told}
    assert {name: spelled(JUDGE[name]) for name in ("device", "threads")} == {
        name: told[name] for name in ("device", "threads")
    }


def test_every_default_that_kdcache_build_states_is_the_one_it_builds_with() -> None:
    told = statements(kdcache.commands["build"])
    assert told == BUILDS_WITH == {name: of_building(name) for name in told}
    silent = (
        {str(p.name) for p in kdcache.commands["build"].params}
        - set(told)
        - {"losses", "trust", "quiet", "as_json"}
    )
    assert {name: BUILD[name] for name in silent if BUILD[name] not in (None, False)} == {}
    (rows,) = [p for p in kdcache.commands["build"].params if p.name == "shard_rows"]
    assert "under 256 MiB" in getattr(rows, "help", "") and MAX_SHARD_BYTES == 256 << 20


def test_every_default_that_a_command_for_looking_states_is_the_one_it_uses() -> None:
    told = {name: statements(kdcache.commands[name]) for name in ("demo", "show", "verify", "peek", "taps")}
    rows = inspect.signature(deep_check).parameters["num_rows"].default
    assert told == {
        "demo": {"out": "demo-out"},
        "show": {"named": "the only one"},
        "verify": {"named": "the only one", "rows": str(rows), "teacher": "the cache's"},
        "peek": {"cache": "the only one", "view": "0", "out": "peek.png"},
        "taps": {
            "output_stride": "the run's, else 8",
            "classes": "those of --weights, else 19",
            "task": "the run's; classification for CIFAR nets, else segmentation",
            "crop": IN_WORDS["crop"],
        },
    }
    used = {
        (name, str(p.name)): str(p.default)
        for name in ("demo", "peek")
        for p in kdcache.commands[name].params
    }
    assert (used["demo", "out"], used["peek", "out"]) == ("demo-out", "peek.png")


def test_a_network_without_a_stated_stride_has_the_8_that_the_help_names(tmp_path: Path) -> None:
    plain = build_network(TINY, task=SEGMENTATION, num_classes=2, weights="none", role="student")
    listed, _ = network_for_listing(TINY, tmp_path, 2, None)
    (spec,) = listed.tap_specs(["stage4"], 64, 64).values()
    assert (plain.config.output_stride, listed.config.output_stride, spec.stride) == (8, 8, 8)


COMMANDS = {
    "kdtrain": kdtrain,
    **{f"kdcache {name}": command for name, command in kdcache.commands.items()},
    **{f"kdtrain {name}": command for name, command in kdtrain.commands.items()},
}


@pytest.mark.parametrize("words", COMMANDS)
def test_the_printed_help_shows_every_default_that_an_option_states(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    program, *rest = words.split()
    shown = CliRunner().invoke({"kdcache": kdcache, "kdtrain": kdtrain}[program], [*rest, "--help"]).output
    flat = " ".join(re.sub(r"[^\x20-\x7e]", " ", shown).split())
    for name, text in statements(COMMANDS[words]).items():
        assert re.search(rf"\[(default: )?{re.escape(text)}[\];]", flat), f"{name}: {text} in {flat}"
