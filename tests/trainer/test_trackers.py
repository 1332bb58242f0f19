"""`--log`: the trackers that accelerate has, opened by accelerate, each told the run's name."""

from pathlib import Path
from typing import Any

import accelerate.tracking
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType
from fake_run import CONFIG, parts

from kdcache.trainer import ranks
from kdcache.trainer.folder.options import TRACKERS, FolderOptions
from kdcache.trainer.loop import train


def test_every_tracker_of_accelerate_has_a_name_here_and_no_other() -> None:
    assert set(TRACKERS) == {str(one) for one in LoggerType} - {"all"} == set(LOGGER_TYPE_TO_CLASS)


def test_several_are_named_with_commas_and_none_is_no_tracker() -> None:
    def named(log: str) -> tuple[str, ...]:
        return FolderOptions(run="r", log=log).trackers

    assert named("wandb, mlflow,wandb") == ("wandb", "mlflow") and named("none") == ()


def test_each_name_is_one_that_the_tracker_takes() -> None:
    """Their own parameters, by accelerate's documentation of each; nobody else is told anything."""
    told = {name: list(options) for name, options in ranks._named("r", Path("/runs/r")).items()}
    assert told == {
        "wandb": ["name"],
        "mlflow": ["run_name"],
        "trackio": ["name"],
        "clearml": ["task_name"],
        "swanlab": ["experiment_name"],
        "dvclive": ["dir"],
    }


def test_a_tracker_hears_options_losses_and_validations_under_the_runs_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []

    class Fake(GeneralTracker):  # type: ignore[misc]
        """Stands for a service: what accelerate tells it is kept."""

        name = "trackio"
        requires_logging_directory = False

        def __init__(self, run_name: str, **options: Any) -> None:
            super().__init__()
            heard.append((run_name, options))

        @property
        def tracker(self) -> "Fake":
            return self

        def start(self) -> None:
            heard.append("started")

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            heard.append(("options", values["lr"]))

        def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
            heard.append((step, set(values)))

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "trackio", Fake)
    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", lambda: [LoggerType("trackio")])
    monkeypatch.setattr(ranks, "get_available_trackers", lambda: [LoggerType("trackio")])
    from dataclasses import replace

    train(replace(CONFIG, log="trackio"), tmp_path / "r", parts(CONFIG))
    assert heard[:3] == [("kdcache", {"name": "r"}), "started", ("options", 0.1)]
    steps = [one for one in heard[3:] if "loss/total" in one[1]]
    assert [step for step, _ in steps] == list(range(1, 8))
    assert [step for step, names in heard[3:] if "val/miou" in names] == [3, 6, 7]
