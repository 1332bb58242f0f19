"""What a run wrote while it trained, and what a cache cost and saved."""

from pathlib import Path

import pytest
from cache_scene import Scene
from tiny_folder import draw_folder
from written_runs import CLASSES, STEPS, write_run

from kdcache.cache.build.build import build_cache
from kdcache.trainer.bench.curves import MOST_POINTS, _thinned, read_curves
from kdcache.trainer.bench.entries import entries_of_runs
from kdcache.trainer.bench.ledger import CacheAccount, accounts


def test_curves_are_the_lines_of_the_log_and_the_classes_those_of_the_best(tmp_path: Path) -> None:
    curves = read_curves(write_run(tmp_path, "r", 0.5), "miou")
    assert curves.val == [(20, 0.5), (40, pytest.approx(0.45))]
    assert curves.classes == dict.fromkeys(CLASSES, 0.5), "not those of the last validation"
    assert curves.class_word == "iou"
    assert curves.seconds == pytest.approx(STEPS / 2.0)
    assert curves.supervised[3] == (4, pytest.approx(1 / 4 + 0.5)), "heads together, no weights, no teacher"


def test_many_points_become_means_of_neighbours() -> None:
    points = [(step, float(step)) for step in range(1, 601)]
    thinned = _thinned(points)
    assert len(thinned) == MOST_POINTS and thinned[0] == (10, 5.5) and thinned[-1] == (600, 595.5)


def test_a_log_that_was_changed_is_left_out_and_said(tmp_path: Path) -> None:
    run = write_run(tmp_path, "r", 0.5)
    log = run / "metrics.jsonl"
    log.write_text(log.read_text().replace("0.5", "0.7"))
    curves = read_curves(run, "miou")
    assert curves.val == [] and curves.note.startswith("the curves of run 'r' are left out: line 1 of")


def test_the_run_at_which_a_cache_has_paid_for_itself() -> None:
    account = CacheAccount("c", "t", 100, 250, 1, (("a", 100), ("b", 149), ("c", 1), ("d", 50)), {})
    assert (account.without, account.saved, account.break_even) == (300, 50, 3)
    assert account._replace(paid=301).break_even is None


def test_rows_are_paid_once_per_pass_and_only_runs_that_read_the_teacher_save(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "zarr")
    draw_folder(scene.data, 7)
    build_cache(scene.options())
    name = scene.cache.name
    write_run(tmp_path, "none", 0.5, loss="none", cache=name)
    write_run(tmp_path, "kd", 0.5, cache=name)
    write_run(tmp_path, "stopped", 0.5, cache=name, seed=1, finished=False)
    (account,), notes = accounts(tmp_path, entries_of_runs(tmp_path, []))
    assert notes == [] and account.rows == 7 * 2 and account.paid == 7 * 2
    assert account.asked == (("kd", STEPS * 4),)
    assert account.num_bytes == sum(p.stat().st_size for p in scene.cache.rglob("*") if p.is_file())
    write_run(tmp_path, "gone", 0.5, cache="gone")
    _, notes = accounts(tmp_path, entries_of_runs(tmp_path, []))
    assert notes == ["cache 'gone' is left out of the ledger: there is no cache 'gone'"]
