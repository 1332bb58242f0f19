"""What an installed distribution offers: two commands that start, and that answer --help at once."""

import subprocess
import sys
from importlib.metadata import entry_points, version

import pytest

COMMANDS = {"kdcache": "kdcache.cli.kdcache:process", "kdtrain": "kdcache.cli.kdtrain:process"}


def test_both_commands_are_installed_and_can_be_imported() -> None:
    installed = {e.name: e for e in entry_points(group="console_scripts") if e.name in COMMANDS}
    assert {name: e.value for name, e in installed.items()} == COMMANDS
    assert all(callable(e.load()) for e in installed.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_printed_without_loading_torch(name: str) -> None:
    """Nobody should wait seconds for a list of options."""
    module = COMMANDS[name].partition(":")[0]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", module, "--help"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"Usage: {name}" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in loaded, "the list of imports was not understood"
    assert loaded.isdisjoint({"torch", "timm", "nvidia.dali", "zarr"})


def test_the_version_is_that_of_the_distribution() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kdcache.cli.kdcache", "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip().endswith(version("kdcache"))
