"""The lines of a run's figures: appended, and after a kill those beyond the checkpoint are gone."""

import errno
import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kdcache.cache.errors import KdError, Refused
from kdcache.trainer.folder.metrics_log import MetricsLog, read_metrics


def steps(run_dir: Path) -> list[int]:
    return [line["step"] for line in read_metrics(run_dir)]


def test_a_resumed_log_goes_on_behind_its_checkpoint(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, keep_until=0)
    for step in (1, 2, 3, 4):
        log.write(step, {"lr": 0.1 * step})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "cut')
    log = MetricsLog(tmp_path, keep_until=3)
    log.write(4, {"lr": 9})
    log.close()
    assert steps(tmp_path) == [1, 2, 3, 4]
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["lr"] == 9


def test_lines_are_on_disk_once_they_are_synced(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, keep_until=0)
    log.write(1, {})
    log.sync()
    assert steps(tmp_path) == [1]
    log.close()


def test_a_line_that_a_kill_cut_short_is_said_when_it_is_left_out(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, keep_until=0)
    log.write(1, {"lr": 0.5})
    log.close()
    assert log.notes == ()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lr": 0.4')
    log = MetricsLog(tmp_path, keep_until=2)
    log.close()
    assert log.notes == ("the last line of metrics.jsonl was cut short by a kill, and is left out",)
    assert steps(tmp_path) == [1]


@pytest.mark.parametrize("stray", [b"\xff", b"", b"\0", b"[]", b'{"step": "2"}', b"[" * 100_000])
def test_a_stray_byte_is_an_error_that_names_the_line_and_keeps_the_file(
    tmp_path: Path, stray: bytes
) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(tmp_path, keep_until=0)
    for step in (1, 2, 3):
        log.write(step, {"lr": 0.5})
    log.close()
    first, _, last, _ = path.read_bytes().split(b"\n")
    damaged = b"\n".join([first, stray, last, b""])
    path.write_bytes(damaged)
    for read in (lambda: MetricsLog(tmp_path, keep_until=3), lambda: read_metrics(tmp_path)):
        with pytest.raises(KdError, match="line 2 of the run's figures is not as it was written") as error:
            read()
        assert error.value.where == str(path) and path.read_bytes() == damaged
    subprocess.run(shlex.split(error.value.fix.rpartition(": ")[2]), check=True)
    assert steps(tmp_path) == [1, 3]


def test_lines_of_before_there_were_checks_are_read_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "lr": 0.5}\n{"step": 1, "miou": 0.25, "num_images": 2}\n')
    log = MetricsLog(tmp_path, keep_until=1)
    log.write(2, {"lr": 0.4})
    log.close()
    assert steps(tmp_path) == [1, 1, 2]
    assert read_metrics(tmp_path)[1] == {"step": 1, "miou": 0.25, "num_images": 2}


@pytest.mark.parametrize(("written", "said"), [((), "is 0, the checkpoint's is 3"), ((1,), "is 1, the")])
def test_figures_that_are_lost_are_said_when_a_run_goes_on(
    tmp_path: Path, written: tuple[int, ...], said: str
) -> None:
    log = MetricsLog(tmp_path, keep_until=0)
    for step in written:
        log.write(step, {})
    log.close()
    if not written:
        (tmp_path / "metrics.jsonl").unlink()
    log = MetricsLog(tmp_path, keep_until=3)
    log.close()
    assert len(log.notes) == 1 and said in log.notes[0] and "figures between them are lost" in log.notes[0]


def test_figures_that_are_there_twice_are_said(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(tmp_path, keep_until=0)
    for step in (1, 1, 2):
        log.write(step, {})
    log.close()
    log = MetricsLog(tmp_path, keep_until=2)
    log.close()
    assert log.notes == ()
    path.write_bytes(path.read_bytes() * 2)
    log = MetricsLog(tmp_path, keep_until=2)
    log.close()
    assert log.notes == ("the steps of metrics.jsonl are not in order: some figures are there twice",)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "it is no regular file"),
        (Path.mkdir, "it is no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is no regular file"),
        (lambda path: (path.touch(), os.truncate(path, 1 << 40)), "it has 1099511627776 bytes"),
    ],
)
def test_what_is_no_file_of_lines_is_refused_and_can_be_moved_aside(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path / "metrics.jsonl")
    with pytest.raises(KdError, match=f"the run's figures cannot be read: {said}") as error:
        MetricsLog(tmp_path, keep_until=0)
    assert error.value.where == str(tmp_path / "metrics.jsonl")
    subprocess.run(shlex.split(error.value.fix.rpartition(": ")[2]), check=True)
    MetricsLog(tmp_path, keep_until=0).close()


def test_a_log_that_the_system_does_not_show_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun anew, it would hold the figures of the later steps alone."""
    log = MetricsLog(tmp_path, keep_until=0)
    log.write(1, {})
    log.close()
    lstat = os.lstat

    def refuse(path: object, **options: object) -> os.stat_result:
        if str(path).endswith("metrics.jsonl"):
            raise OSError(errno.EIO, "Input/output error")
        return lstat(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "lstat", refuse)
    with pytest.raises(Refused, match=r"'metrics.jsonl' could not be written"):
        MetricsLog(tmp_path, keep_until=1)
    monkeypatch.undo()
    assert steps(tmp_path) == [1]
