"""A home with a cache, made once; every test works in a copy."""

from pathlib import Path

import pytest
from sweep_home import InProcess, copied, draw_home

from kdcache.trainer.bench import work


@pytest.fixture(scope="session")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDCACHE_HOME", str(home))
        return draw_home(home)


@pytest.fixture
def home(made_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    return copied(made_home, tmp_path)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """The sweep's commands run in this process."""
    launched = InProcess()
    monkeypatch.setattr(work, "launch", launched)
    return launched
