"""The table of an ablation: which runs share a row, what they are compared with, what is not said."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from written_runs import write_run

from kdcache.cache.errors import BadOption, Missing
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.bench import score_text
from kdcache.trainer.bench.score_table import Row, ScoreTable, table_of


def row(table: ScoreTable, label: str) -> Row:
    (one,) = [one for one in table.rows if one.label == label]
    return one


def ablation(home: Path) -> None:
    """none 0.40 0.50 0.60; kd 0.02, 0.03 and 0.04 above it; cwd of one seed; fresh views of one seed."""
    for seed, none in enumerate((0.4, 0.5, 0.6)):
        write_run(home, f"none{seed}", none, loss="none", seed=seed)
        write_run(home, f"kd{seed}", none + 0.02 + seed / 100, seed=seed)
    write_run(home, "cwd1", 0.45, loss="cwd", seed=1)
    write_run(home, "fresh", 0.55, loss="none", seed=1, data="folder:/data")


def test_rows_means_and_paired_differences_are_those_of_the_runs(tmp_path: Path) -> None:
    ablation(tmp_path)
    table = table_of(tmp_path, [], None)
    assert [one.label for one in table.rows] == ["none (fresh views)", "none", "cwd", "kd"]
    kd = row(table, "kd")
    assert kd.val is not None and kd.val.mean == pytest.approx((0.42 + 0.53 + 0.64) / 3)
    assert kd.differences == pytest.approx({0: 0.02, 1: 0.03, 2: 0.04})
    assert kd.difference is not None and kd.difference.low is not None and kd.difference.high is not None
    half = 4.30265 * 0.01 / 3**0.5  # of three differences whose deviation is 0.01
    assert (kd.difference.low, kd.difference.high) == pytest.approx((0.03 - half, 0.03 + half), abs=1e-6)
    assert kd.verdict == "above none"
    assert (row(table, "cwd").verdict, row(table, "none").verdict) == ("one seed", "")
    assert row(table, "none (fresh views)").differences == pytest.approx({1: 0.05})


def test_a_run_that_did_not_come_to_its_end_keeps_its_place_and_has_no_score(tmp_path: Path) -> None:
    ablation(tmp_path)
    write_run(tmp_path, "cwd0", 0.99, loss="cwd", seed=0, finished=False)
    table = table_of(tmp_path, [], None)
    cwd = row(table, "cwd")
    assert [entry.seed for entry in cwd.entries] == [0, 1]
    assert cwd.val is not None and (cwd.val.num, cwd.val.mean) == (1, 0.45)
    assert any(note.startswith("run 'cwd0' has no score: stopped (step ") for note in table.notes)
    assert score_text.seeds_text(cwd) == "1 of 2"


def test_a_run_that_was_never_validated_has_no_score(tmp_path: Path) -> None:
    ablation(tmp_path)
    write_run(tmp_path, "blind", None, loss="cwd", seed=2)
    table = table_of(tmp_path, [], None)
    assert "run 'blind' has no score: it was never validated, see --eval-every" in table.notes


def test_runs_of_other_options_are_rows_of_their_own_and_meet_their_own_none(tmp_path: Path) -> None:
    ablation(tmp_path)
    write_run(tmp_path, "kd-lr", 0.7, lr=0.5)
    table = table_of(tmp_path, [], None)
    assert row(table, "kd, lr=0.5").differences == pytest.approx({0: 0.3}), "the only none there is"
    write_run(tmp_path, "none-lr", 0.6, loss="none", lr=0.5)
    table = table_of(tmp_path, [], None)
    assert row(table, "kd, lr=0.5").differences == pytest.approx({0: 0.1}), "the none of the same options"
    assert row(table, "kd").differences == pytest.approx({0: 0.02, 1: 0.03, 2: 0.04})


def test_another_students_none_is_no_comparison(tmp_path: Path) -> None:
    ablation(tmp_path)
    write_run(tmp_path, "mb", 0.8, student="mbv2")
    table = table_of(tmp_path, [], None)
    (other,) = [one for one in table.rows if one.key.student == "mbv2"]
    assert (other.difference, other.verdict) == (None, "no pair")
    assert any(note.startswith("no pair: a run of the same student with --loss none") for note in table.notes)


def test_the_same_cell_twice_counts_once(tmp_path: Path) -> None:
    ablation(tmp_path)
    write_run(tmp_path, "kd9", 0.99, seed=0)
    table = table_of(tmp_path, [], None)
    assert "run 'kd9' is as run 'kd0', with the same seed: it is left out" in table.notes
    assert row(table, "kd").scores("val")[0] == pytest.approx(0.42)


def test_differences_are_of_test_where_every_run_has_a_score_there_and_else_of_val(tmp_path: Path) -> None:
    write_run(tmp_path, "none", 0.5, loss="none", test=0.45)
    write_run(tmp_path, "kd", 0.6, test=0.44)
    table = table_of(tmp_path, [], None)
    assert table.split == "test" and row(table, "kd").differences == pytest.approx({0: -0.01})
    assert "scores on test are of the student that val chose; nothing was chosen on test" in table.notes
    write_run(tmp_path, "cwd", 0.6, loss="cwd")
    table = table_of(tmp_path, [], None)
    assert table.split == "val" and row(table, "kd").differences == pytest.approx({0: 0.1})


def test_a_teacher_without_a_score_on_test_says_how_it_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, "my teacher", 0.7, loss="none", data="folder:/data")
    write_run(tmp_path, "kd", 0.6, test=0.44, data="folder:/data", teacher="my teacher", online=True)
    said = "teacher my teacher has no score on test yet: kdtrain eval 'my teacher' --split test"
    assert said in table_of(tmp_path, [], None).notes
    shutil.rmtree(tmp_path / "runs")
    write_run(tmp_path, "my teacher", 0.7, loss="none", data="folder:/data", test=0.5)
    write_run(tmp_path, "kd", 0.6, test=0.44, data="folder:/data", teacher="my teacher", online=True)
    assert not any("yet" in note for note in table_of(tmp_path, [], None).notes)


@pytest.mark.parametrize(
    "students", [("deeplabv3:test_resnet",), ("deeplabv3:test_resnet", "pspnet:test_resnet")]
)
@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_no_name_is_broken_at_any_width(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, students: tuple[str, ...], columns: str
) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", columns)
    for student in students:
        for seed in (0, 1):
            for loss in ("none", "kd", "cwd(tau=4,weight=3)+kd(T=2)"):
                name = f"{student}-{loss}-{seed}".replace("/", "_")
                score = 0.5 + seed / 10 + len(loss) / 1000
                write_run(tmp_path, name, score, loss=loss, seed=seed, student=student, test=score)
    shown = CliRunner().invoke(kdtrain, ["compare"], catch_exceptions=False).output
    table = table_of(tmp_path, [], None)
    above = shown.split("By miou on test")[0].splitlines()
    if columns != "200":
        assert all(any(table.name_of(one) == line for line in above) for one in table.rows)
        figures = [line for line in above if line.startswith("  stored")]
    else:
        figures = [line for line in above if "  stored" in line]
        assert all(any(one.key.loss in line for line in figures) for one in table.rows)
    assert [line.split("stored", 1)[1].split()[1] for line in figures] == [
        f"{100 * one.val.mean:.2f}" for one in table.rows if one.val is not None
    ], "each name stands with its own figures"
    assert all(len(line) <= int(columns) for line in above)
    assert ("95 % interval" in shown) == (columns != "60") and ("reading" in shown) == (columns == "200")


def test_runs_that_no_table_holds_are_named(tmp_path: Path) -> None:
    write_run(tmp_path, "a", 0.5, data="folder:/data")
    write_run(tmp_path, "b", 0.5, data="camvid:/data")
    with pytest.raises(BadOption, match="run 'a' is of folder:/data, run 'b' of camvid:/data") as error:
        table_of(tmp_path, [], None)
    assert error.value.fix.startswith("compare runs of one data set, each set for itself")
    assert table_of(tmp_path, ["b"], None).rows[0].entries[0].run == "b"


def test_two_folders_are_two_data_sets_wherever_they_lie(tmp_path: Path) -> None:
    for run, data in (("a", "folder:/old/shapes"), ("b", "folder:/new/shapes"), ("c", "folder:/new/streets")):
        write_run(tmp_path, run, 0.5, data=data)
    assert len(table_of(tmp_path, ["a", "b"], None).rows) == 1
    with pytest.raises(BadOption, match="run 'a' is of folder:/old/shapes, run 'c' of folder:/new/streets"):
        table_of(tmp_path, [], None)


def test_what_nobody_typed_is_called_the_default(tmp_path: Path) -> None:
    write_run(tmp_path, "a", 0.5, eval_every=2)
    write_run(tmp_path, "b", 0.5, seed=1, eval_every=2)
    write_run(tmp_path, "c", 0.5, eval_every=None)
    said = [table_of(tmp_path, [], None).name_of(row) for row in table_of(tmp_path, [], None).rows]
    assert any("eval_every=default" in name for name in said) and not any("None" in name for name in said)


def test_an_empty_home_and_a_mistyped_run_are_errors(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="no runs to compare") as error:
        table_of(tmp_path, [], None)
    assert error.value.fix == "train some first: kdtrain --help"
    ablation(tmp_path)
    with pytest.raises(Missing, match="no run 'kd7'"):
        table_of(tmp_path, ["kd7"], None)


def test_a_sweep_keeps_the_places_of_cells_that_failed_or_did_not_begin(tmp_path: Path) -> None:
    write_run(tmp_path, "s-none", 0.5, loss="none")
    write_run(tmp_path, "s-kd", 0.6)
    folder = tmp_path / "sweeps" / "first"
    (folder / "failed").mkdir(parents=True)
    cells = [
        {"run": f"s-{loss}", "student": "r18", "loss": loss, "options": {}, "seed": 0, "cache": "cache",
         "data": None, "role": "none" if loss == "none" else "cell"}
        for loss in ("none", "kd", "cwd", "mgd")
    ]  # fmt: skip
    (folder / "cells.json").write_text(json.dumps({"format": 1, "name": "first", "cells": cells}))
    (folder / "failed" / "s-cwd.json").write_text(json.dumps({"error": "no tap\n  where: x", "status": 2}))
    table = table_of(tmp_path, [], "first")
    assert [one.label for one in table.rows] == ["none", "kd", "cwd", "mgd"]
    assert row(table, "kd").differences == pytest.approx({0: 0.1})
    assert "run 's-cwd' has no score: failed: no tap" in table.notes
    assert "run 's-mgd' has no score: not begun" in table.notes
    with pytest.raises(Missing, match="no sweep 'frist'") as error:
        table_of(tmp_path, [], "frist")
    assert "did you mean 'first'?" in error.value.fix


def test_a_sweep_has_the_rows_of_its_runs_and_names_only_options_that_tell_them_apart(tmp_path: Path) -> None:
    common = {"steps": 40, "batch_size": 4, "weights": "none", "save_every": 10}
    fresh = {**common, "crop": "32,32", "augment": "scale=0.5x2,flip"}
    cells = []
    for seed in (0, 1):
        for lr in (0.1, 0.5):
            for loss, role in (("none", "none-fresh"), ("none", "none"), ("kd", "cell")):
                own = {"lr": lr, "save_every": 10 + seed}  # what changes no figure tells no row
                run = f"s-{role}-{lr:g}-{seed}"
                data = "folder:/data" if role == "none-fresh" else None
                options = {**(fresh if data else common), **own}
                write_run(tmp_path, run, 0.5, loss=loss, seed=seed, data=data, lr=lr, save_every=10 + seed)
                cells.append(
                    {"run": run, "student": "r18", "loss": loss, "options": options, "seed": seed,
                     "cache": None if data else "cache", "data": data, "role": role}
                )  # fmt: skip
    folder = tmp_path / "sweeps" / "first"
    folder.mkdir(parents=True)
    (folder / "cells.json").write_text(json.dumps({"format": 1, "name": "first", "cells": cells}))
    table = table_of(tmp_path, [], "first")
    assert [one.label for one in table.rows] == [
        "none (fresh views), lr=0.1", "none (fresh views), lr=0.5", "none, lr=0.1", "none, lr=0.5",
        "kd, lr=0.1", "kd, lr=0.5",
    ]  # fmt: skip
    of_runs = table_of(tmp_path, [], None)
    by_run = [{entry.run for entry in one.entries} for one in of_runs.rows]
    assert all({entry.run for entry in one.entries} in by_run for one in table.rows)
    assert len(by_run) == len(table.rows) == 6
    cells = [cell for cell in cells if cell["options"]["lr"] == 0.1]
    (folder / "cells.json").write_text(json.dumps({"format": 1, "name": "first", "cells": cells}))
    labels = [one.label for one in table_of(tmp_path, [], "first").rows]
    assert labels == ["none (fresh views)", "none", "kd"], "what all have is said of none"


def test_csv_json_and_markdown_say_the_same_numbers(tmp_path: Path) -> None:
    ablation(tmp_path)
    table = table_of(tmp_path, [], None)
    (kd,) = [
        one
        for one in csv.DictReader(io.StringIO("\n".join(score_text.csv_lines(table))))
        if one["loss"] == "kd"
    ]
    assert float(kd["difference_mean"]) == pytest.approx(0.03) and kd["runs"] == "kd0 kd1 kd2"
    record = json.loads("\n".join(score_text.json_lines(table)))
    (as_json,) = [one for one in record["rows"] if one["loss"] == "kd"]
    assert (
        as_json["difference"]["mean"] == float(kd["difference_mean"]) and as_json["reading"] == "above none"
    )
    (line,) = [one for one in score_text.markdown_lines(table) if "| kd |" in one]
    assert line == ("| r18 | kd | stored | 3 | 53.00 \u00b1 11.00 | +3.00 | +0.52 to +5.48 | above none |")


def test_names_from_data_stay_in_their_cell(tmp_path: Path) -> None:
    write_run(tmp_path, "evil", 0.5, loss="none", weights="a|b<i>\n`x`")
    write_run(tmp_path, "kd", 0.5)
    write_run(tmp_path, "kd1", 0.5, seed=1)
    lines = score_text.markdown_lines(table_of(tmp_path, [], None))
    (evil,) = [one for one in lines if "| none | weights" in one]
    assert r"weights=a\|b\<i\>\\n\`x\`" in evil
    assert len(score_text.csv_lines(table_of(tmp_path, [], None))) == 3, "a name that ends no line"


def test_the_summary_is_of_the_readings(tmp_path: Path) -> None:
    ablation(tmp_path)
    said = score_text.summary(table_of(tmp_path, [], None))
    assert said == "By miou on val, over equal seeds. Above none: kd; one seed: cwd."
