"""A file that is replaced is the old one or the new one."""

from pathlib import Path

import pytest

from kdcache.trainer.folder import atomic_file
from kdcache.trainer.folder.atomic_file import write_text


def test_a_kill_before_the_bytes_are_on_disk_leaves_the_old_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.toml"
    write_text(path, "old")

    def killed(file: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic_file, "sync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text() == "old"


def test_the_bytes_are_on_disk_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "config.toml", list[tuple[str, bool]]()
    monkeypatch.setattr(atomic_file, "sync", lambda file: synced.append((file.name, path.exists())))
    write_text(path, "new")
    assert synced == [(".tmp-config.toml", False), (tmp_path.name, True)] and path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["config.toml"]
