"""A run whose folder is refused any one call: three parts, and the same command finishes, bit for bit."""

import errno
import shutil
from pathlib import Path

import pytest
from fake_run import results, run
from refusals import CODES, Refusing

from kdcache.cache.errors import DiskFull, Refused
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.folder.metrics_log import MetricsLog
from kdcache.trainer.folder.run_folder import check_free
from kdcache.trainer.ranks import quiet_trackers

CALLS = ("write", "fsync", "replace", "mkdir", "listdir", "open")


def finished(run_dir: Path) -> dict[str, object]:
    """As a person would: the same command, with --resume where it says that the run exists."""
    try:
        check_free(run_dir)
    except ValueError:
        run(run_dir, resume=True)
    else:
        run(run_dir)
    return results(run_dir)


@pytest.mark.parametrize("code", CODES, ids=lambda code: errno.errorcode[code])
def test_a_run_that_is_refused_a_call_says_so_and_ends_the_same(tmp_path: Path, code: int) -> None:
    run_dir = tmp_path / "r"
    with Refusing(tmp_path) as counted:
        run(run_dir)
    wanted, turn = results(run_dir), CODES.index(code)
    for name in (CALLS[turn % len(CALLS)], "open"):
        places = [n for n, call in enumerate(counted.calls) if call[0] == name] or [len(counted.calls) // 2]
        shutil.rmtree(run_dir)
        at = places[len(places) * (turn + 1) // (len(CODES) + 1)]
        with pytest.raises(Refused) as caught, Refusing(tmp_path, at, code, lasting=True):
            run(run_dir)
        assert caught.value.errno == code and caught.value.where.startswith(str(tmp_path))
        assert "repair" not in str(caught.value) and "delete" not in str(caught.value)
        assert "with --resume if it says that the run exists" in caught.value.fix
        assert finished(run_dir) == wanted


def test_a_full_disk_at_the_metrics_names_them(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, keep_until=0)
    log.write(1, {"loss": 1.0})
    with pytest.raises(DiskFull, match="the disk is full: 'metrics.jsonl' could not be written"):
        with Refusing(tmp_path, 0, errno.ENOSPC, lasting=True):
            log.sync()
    log.close()


def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    run_dir = tmp_path / "r"
    run(run_dir)
    newest = list_checkpoints(run_dir)[-1]
    with Refusing(newest) as counted:
        run(run_dir, resume=True)
    opened = [number for number, call in enumerate(counted.calls) if call[0] == "open"]
    for at in opened[:4]:
        with pytest.raises(Refused, match="the disk reports an error"), Refusing(newest, at, errno.EIO):
            run(run_dir, resume=True)


def test_what_a_thread_is_refused_is_told_once() -> None:
    import threading

    told: list[object] = []
    before, threading.excepthook = threading.excepthook, told.append

    def fail(error: Exception) -> None:
        raise error

    try:
        with quiet_trackers():
            for error in (OSError(errno.ENOSPC, "No space left on device"), ValueError("a bug")):
                thread = threading.Thread(target=fail, args=(error,))
                thread.start()
                thread.join()
        assert [type(one.exc_value) for one in told] == [ValueError]  # type: ignore[attr-defined]
    finally:
        threading.excepthook = before
