"""`kdtrain chain`: each link teaches the next, in commands of its own; stopped anywhere, it continues."""

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from painted_objects import painted_set, write_coco
from tiny_folder import draw_folder

from kdcache.cache.reader.cache import open_cache
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.cli.training import chain as chain_module
from kdcache.trainer.folder.metrics_log import read_metrics

NETWORK = """
from torch import nn

def make(num_classes):
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=8, padding=1), nn.ReLU())
    model = nn.Sequential(stem, nn.Conv2d(4, num_classes or 3, 1))
    model.pad_multiple = 8
    return model, {"stage4": "0", "logits": "1"}
"""
FIRST = "chain-own_make@3-none"
SECOND = "chain-own_make@3-own_make-kd"
THIRD = "chain-own_make@3-own_make-own_make-kd"
RUNS = (FIRST, SECOND, THIRD)
TINY = [
    "own:make@3", "own:make", "own:make", "--steps", "2", "--batch-size", "2", "--crop", "32",
    "--device", "cpu", "--log", "none", "--build-views", "crops:1", "--lr-schedule", "multistep",
    "--milestones", "0.5",
]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    draw_folder(tmp_path / "data", count=2)
    (tmp_path / "own.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    return tmp_path


def kd(*arguments: str) -> Result:
    return CliRunner().invoke(kdtrain, ["chain", *arguments])


class Typed:
    """Runs the chain's commands in this process; `stop_before` of them an outage comes."""

    def __init__(self, stop_before: int | None = None) -> None:
        self.commands: list[list[str]] = []
        self.stop_before = stop_before

    def __call__(self, command: list[str]) -> int:
        if len(self.commands) == self.stop_before:
            return 137
        self.commands.append(command)
        program = {"kdtrain": kdtrain, "kdcache": kdcache}[command[0]]
        result = CliRunner().invoke(program, command[1:], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return 0

    def runs(self) -> list[str]:
        named = [c[c.index("--run" if c[0] == "kdtrain" else "--teacher") + 1] for c in self.commands]
        return [f"{c[0]} {name}" for c, name in zip(self.commands, named, strict=True)]


EVERYTHING = [
    f"kdtrain {FIRST}", f"kdcache {FIRST}", f"kdtrain {SECOND}", f"kdcache {SECOND}", f"kdtrain {THIRD}",
]  # fmt: skip


def test_each_link_is_taught_by_the_cache_of_the_one_before(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = Typed()
    monkeypatch.setattr(chain_module, "execute", typed)
    result = kd(*TINY, "--data", f"folder:{home / 'data'}")
    assert result.exit_code == 0, result.output
    assert typed.runs() == EVERYTHING
    steps = [max(line["step"] for line in read_metrics(home / "runs" / run)) for run in RUNS]
    assert steps == [3, 2, 2], "three epochs of one step for the first link, --steps for the others"
    terms = [set(read_metrics(home / "runs" / run)[0]["loss"]) for run in RUNS]
    assert "kd" not in terms[0] and "kd" in terms[1] and "kd" in terms[2]
    caches = [c[c.index("--cache") + 1] for c in typed.commands if "--cache" in c]
    assert len(set(caches)) == 2 and all(cache.startswith("folder-chain") for cache in caches)

    again = Typed()
    monkeypatch.setattr(chain_module, "execute", again)
    result = kd(*TINY, "--data", f"folder:{home / 'data'}")
    assert result.exit_code == 0 and "finished" in result.output
    assert [one for one in again.runs() if one.startswith("kdtrain")] == []
    other = kd(*TINY, "--data", f"folder:{home / 'data'}", "--lr", "0.5")
    assert other.exit_code == 2 and "--lr 0.5 differs" in other.stderr


def test_a_chain_that_was_stopped_continues_where_it_was(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [*TINY, "--data", f"folder:{home / 'data'}"]
    monkeypatch.setattr(chain_module, "execute", Typed(stop_before=2))
    stopped = kd(*command)
    assert stopped.exit_code == 137 and "the same command continues it" in stopped.stderr
    (home / "runs" / FIRST / "network.json").unlink()  # as if it had been killed before its export
    typed = Typed()
    monkeypatch.setattr(chain_module, "execute", typed)
    assert kd(*command).exit_code == 0
    assert typed.runs() == EVERYTHING
    assert "--resume" in typed.commands[0] and "--resume" not in typed.commands[2]


def test_dry_run_prints_the_commands_and_runs_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "execute", lambda command: pytest.fail(f"ran {command}"))
    result = kd(
        "r18@30", "r50", "--data", f"folder:{home / 'data'}", "--dry-run", "--epochs", "240", "--nesterov",
        "--no-aux", "--augment", "flip", "--loss", "cwd(tau=4)", "--threads", "2", "--run", "rev",
        "--crop", "32,48",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    lines = [shlex.split(line[2:]) for line in result.output.splitlines() if line.startswith("$ ")]
    first, _, second = (set(line) for line in lines)
    assert (
        " ".join(lines[1])
        == "kdcache build --teacher rev-r18@30-none --for cwd(tau=4) --augment flip --threads 2"
    )
    assert lines[0][lines[0].index("--epochs") + 1] == "30" and "240" not in first
    assert lines[2][lines[2].index("--epochs") + 1] == "240"
    for shared in ("--nesterov", "--no-aux", "--threads"):
        assert shared in first and shared in second
    for fresh in ("--data", "--augment", "--crop"):
        assert fresh in first and fresh not in second
    assert not (home / "runs").exists()


def test_commands_of_a_chain_carry_the_consent_that_it_was_given(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run names its network in a file, and each command is a process of its own: without the word it would
    refuse the network that this command line named."""
    monkeypatch.setattr(chain_module, "execute", lambda command: pytest.fail(f"ran {command}"))
    result = kd(*TINY, "--data", f"folder:{home / 'data'}", "--dry-run", "--trust=my.codecs")
    commands = [shlex.split(line[2:]) for line in result.output.splitlines() if line.startswith("$ ")]
    assert [command[-4:] for command in commands if command[0] == "kdcache"] == [
        ["--trust", "own:make", "--trust", "my.codecs"]
    ] * 2
    assert all(command[-2:] == ["--trust", "my.codecs"] for command in commands if command[0] == "kdtrain")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["r18"], ["a chain of 1 network: nobody to teach", "kdtrain chain r101 r50 r18"]),
        (["r18@x", "r50"], ["'x' is no number of epochs", "NETWORK@EPOCHS"]),
        (["r18", "r19"], ["r19", "fix:"]),
        (["r18", "r50", "--loss", "none"], ["loss 'none' reads no teacher", "kdtrain methods"]),
    ],
)
def test_a_chain_that_cannot_work_is_refused_before_anything_is_trained(
    home: Path, arguments: list[str], parts: list[str]
) -> None:
    result = kd(*arguments, "--data", f"folder:{home / 'data'}")
    assert result.exit_code == 2, result.output
    assert all(part in result.stderr for part in parts), result.stderr
    assert not (home / "runs").exists()


def test_a_chain_needs_data_and_one_process(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = kd("r18", "r50")
    assert without.exit_code == 2 and "add --data NAME:FOLDER" in without.stderr
    monkeypatch.setenv("WORLD_SIZE", "2")
    several = kd("r18", "r50", "--data", f"folder:{home / 'data'}")
    assert several.exit_code == 2 and "--dry-run prints under torchrun" in several.stderr


def test_images_without_objects_are_kept_by_every_link_and_every_cache(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache without them could not give them to the link that is told to train on them."""
    write_coco(home / "painted", painted_set(4), "train")  # the last has no object
    typed = Typed()
    monkeypatch.setattr(chain_module, "execute", typed)
    network = "gfl(width=16,convs=1):test_resnet"
    result = kd(
        network, network, "--loss", "pkd", "--data", f"coco:{home / 'painted'}", "--keep-empty", "--weights",
        "none", "--steps", "1", "--batch-size", "4", "--crop", "64,96", "--device", "cpu", "--log", "none",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert ["--keep-empty" in command for command in typed.commands] == [True, True, True]
    (root,) = (home / "caches").iterdir()
    assert open_cache(root).generation.num_living == 4
