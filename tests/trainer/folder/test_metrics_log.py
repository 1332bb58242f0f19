"""The lines of a run's figures: appended, and after a kill those beyond the checkpoint are gone."""

import json
from pathlib import Path

from kdcache.trainer.folder.run_folder import MetricsLog, read_metrics


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
