"""`kdcache build` works without the trainer: its crop and its home folder are the cache's own affair."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BUILD = """
import json, sys
from kdcache.cli.kdcache import main
try:
    main(["build", "--teacher", "r18", "--data", f"folder:{sys.argv[1]}", "--crop", "64,96"])
except SystemExit as end:
    print(json.dumps([end.code, [name for name in sys.modules if name.startswith("kdcache.trainer")]]))
"""


@pytest.mark.slow
def test_building_imports_nothing_of_the_trainer(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path / "absent")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "no folder images" in done.stderr, done.stderr
    assert json.loads(done.stdout) == [2, []]
