"""Every option that takes a number, with numbers that nobody should give: said in three parts or as click
says it, or a plain run; never a traceback.

The options are those that click knows, so a new one is asked without a line here.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import fake_run
import pytest
from click.testing import CliRunner, Result

from kdcache.cache.errors import BadOption
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.config import TrainConfig

VALUES = ("inf", "-inf", "nan", "-1", "0", str(10**20), "1e308", "x", "", "9" * 5000)
# Read from texts, which click leaves alone.
TEXTS = {
    ("kdtrain", "--crop"): "{}",
    ("kdtrain", "--milestones"): "{}",
    ("kdcache build", "--crop"): "{}",
    ("kdcache build", "--memory"): "{}",
    ("kdcache build", "--memory "): "{}G",
    ("kdcache build", "--shard-rows"): "{}",
    ("kdcache taps", "--crop"): "{}",
}
# What else a command must have before it looks at its numbers.
NEEDED = {
    "kdtrain chain": ("r34", "r18", "--data", "camvid:nowhere"),
    "kdtrain eval": ("nobody",),
    "kdcache build": ("--teacher", "r18"),
    "kdcache peek": ("key",),
    "kdcache taps": ("--teacher", "resnet8"),
}


def numeric(command: click.Command) -> Iterator[str]:
    for one in command.params:
        if isinstance(one.type, click.types.IntParamType | click.types.FloatParamType):
            yield one.opts[0]


def commands() -> Iterator[tuple[str, click.Command]]:
    for name, group in (("kdtrain", kdtrain), ("kdcache", kdcache)):
        yield name, group
        yield from ((f"{name} {below}", command) for below, command in group.commands.items())


ASKED = [(name, flag, "{}") for name, command in commands() for flag in numeric(command)]
ASKED += [(name, flag.strip(), form) for (name, flag), form in TEXTS.items()]


def ask(name: str, *words: str) -> Result:
    program, *below = name.split()
    group = kdtrain if program == "kdtrain" else kdcache
    return CliRunner().invoke(group, [*below, *NEEDED.get(name, ()), *words])


def accepted(flag: str, text: str) -> bool:
    """Whether a run can be asked for it."""
    (one,) = [p for p in kdtrain.params if p.opts[0] == flag]
    try:
        value: Any = one.type.convert(text, one, None)
        TrainConfig(**{"run": "r", one.name: value})  # type: ignore[dict-item]
    except (click.BadParameter, BadOption):
        return False
    return True


@pytest.mark.parametrize(("name", "flag", "form"), ASKED, ids=lambda value: value.replace(" ", "-"))
def test_no_number_is_a_traceback(
    name: str, flag: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for value in VALUES:
        text = form.format(value)
        result = ask(name, flag, text)
        assert isinstance(result.exception, SystemExit), (text, result.exception)
        assert result.exit_code == 2, (text, result.output)
        three_parts = "  where: " in result.output and "  fix:   " in result.output
        assert three_parts or "Usage: " in result.output, (text, result.output)


def test_what_a_run_refuses_is_said_of_the_option_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without data every command ends with an error: this one is of the number and comes first."""
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    for flag in numeric(kdtrain):
        for value in VALUES:
            said = ask("kdtrain", flag, value).output
            assert (flag in said) != accepted(flag, value), (flag, value, said)


def test_what_can_be_asked_for_is_exactly_zero_where_zero_means_something() -> None:
    legal = {(flag, value) for flag in numeric(kdtrain) for value in VALUES if accepted(flag, value)}
    zeros = ("--seed", "--weight-decay", "--momentum", "--poly-power", "--warmup-steps")
    assert legal == {*((flag, "0") for flag in zeros), ("--clip", str(10**20))}


@pytest.mark.parametrize(
    "extreme",
    [
        {"seed": 2**63 - 1},
        {"weight_decay": 0.0, "momentum": 0.0, "poly_power": 0.0},
        {"weight_decay": 1e6, "lr": 1e-6},
        {"poly_power": 1e6, "warmup_steps": 10**12},
        {"clip": 1e30, "optimizer": "adamw", "lr": 1e-30},
        {"eval_every": 10**12, "save_every": 10**12},
    ],
)
def test_the_outermost_numbers_are_plain_runs(extreme: dict[str, Any], tmp_path: Path) -> None:
    config = replace(fake_run.CONFIG, steps=2, ema=None, **{"lr": 0.1, **extreme})
    fake_run.run(tmp_path, config)
    assert fake_run.results(tmp_path)["card"]["final/step"] == 2


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"lr": float("inf")},
            "--lr cannot be inf\n  where: --lr inf\n  fix:   give a number above 0, at most 1e+06",
        ),
        (
            {"momentum": 1.0},
            "--momentum cannot be 1.0\n  where: --momentum 1.0\n  fix:   give 0 or more, below 1",
        ),
        (
            {"threads": 10**20},
            f"--threads cannot be {10**20}\n  where: --threads {10**20}\n"
            "  fix:   give a number from 1 to 1024",
        ),
        (
            {"seed": 2**63},
            f"--seed cannot be {2**63}\n  where: --seed {2**63}\n  fix:   give 0 or more, below 2^63",
        ),
        (
            {"crop": (99999, 99999)},
            "--crop cannot be (99999, 99999)\n  where: --crop (99999, 99999)\n"
            "  fix:   give H,W in pixels up to 8192, such as 360,360",
        ),
    ],
)
def test_the_error_says_what_the_option_takes(given: dict[str, Any], text: str) -> None:
    with pytest.raises(BadOption) as error:
        TrainConfig(run="r", **given)
    assert str(error.value) == text


def test_epochs_of_more_steps_than_a_run_has_are_refused_by_the_name_that_was_written() -> None:
    config = TrainConfig(run="r", epochs=1e6, batch_size=1)
    assert config.with_steps(10**6).steps == 10**12
    with pytest.raises(BadOption) as error:
        config.with_steps(10**7)
    assert str(error.value) == (
        "--epochs cannot be 1000000.0\n  where: --epochs 1000000.0\n"
        "  fix:   give fewer: these are 10000000000000 steps, and 1000000000000 are the most"
    )


@pytest.mark.parametrize(
    "views", ["crops:inf", "crops:-1", "crops:0", f"crops:{10**20}", "crops:" + "9" * 5000]
)
def test_a_number_of_views_is_bounded(views: str) -> None:
    from kdcache.cache.views.sets import parse_views

    with pytest.raises(BadOption, match="unknown views") as error:
        parse_views(views, crop=(8, 8), seed=0, mirror=False)
    assert "K from 1 to 65536" in error.value.fix


@pytest.mark.parametrize("value", ["inf", "nan", "1e308", str(10**20), "9" * 5000])
@pytest.mark.parametrize("option", ["T", "weight", "warmup", "upsample", "hard"])
def test_a_number_of_a_loss_is_bounded(option: str, value: str) -> None:
    from kdcache.losses.plan.plan import parse_losses

    with pytest.raises(BadOption, match=f"option '{option}' of 'kd' takes"):
        parse_losses(f"kd({option}={value})", preset=None, task="classification")


def test_a_number_that_only_its_size_speaks_against_is_told_the_size() -> None:
    from kdcache.losses.plan.plan import parse_losses

    with pytest.raises(BadOption) as error:
        parse_losses("kd(T=1e308)", preset=None, task="classification")
    assert error.value.what == "option 'T' of 'kd' takes a number above 0, at most 1e+15, not '1e308'"


def test_a_chain_refuses_a_number_before_its_first_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    said = ask("kdtrain chain", "--lr", "inf", "--dry-run").output
    assert "--lr cannot be inf" in said and "$ kdtrain" not in said


def test_a_chain_hands_numbers_on_as_they_were_typed() -> None:
    from kdcache.cli.training.chain import _arguments

    assert _arguments({"lr": 0.000123456789, "clip": 35.0}) == ["--lr", "0.000123456789", "--clip", "35"]
