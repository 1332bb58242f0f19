"""The drawings of a report, as plotly is asked to make them."""

from pathlib import Path

from written_runs import write_run

from kdcache.trainer.bench.curves import Curves
from kdcache.trainer.bench.page import figures
from kdcache.trainer.bench.score_table import table_of


def test_the_drawing_of_scores_is_of_the_split_of_the_differences(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, f"none{seed}", 0.5, loss="none", seed=seed, test=0.3 + seed / 10)
        write_run(tmp_path, f"kd{seed}", 0.6, seed=seed, test=0.4 + seed / 10)
    write_run(tmp_path, "teacher", 0.9, test=0.7, student="r50")
    table = table_of(tmp_path, [], None)
    rows = [row for row in table.rows if row.key.student == "r18"]
    teachers = [row for row in table.rows if row.key.student == "r50"]
    drawn = figures.scores(rows, "miou", teachers, table.split)
    assert drawn is not None and drawn.layout.xaxis.title.text == "miou on test, %"
    marks = [[round(x, 6) for x in one.x] for one in drawn.data]
    assert marks == [[30, 40], [35], [40, 50], [45]]
    assert [round(one.x0, 6) for one in drawn.layout.shapes] == [70], "the teacher on the same split"


def test_classes_stand_in_the_order_of_the_class_map(tmp_path: Path) -> None:
    write_run(tmp_path, "none", 0.5, loss="none")
    (row,) = table_of(tmp_path, [], None).rows
    of_row = {row.name: {"car": 0.3, "sky": 0.1, "new": 0.4, "road": 0.2}}
    made = figures.classes([row], of_row, "iou %", ("sky", "road", "fence", "car"))
    assert made is not None and made[1] == 0
    assert list(made[0].layout.xaxis.ticktext) == ["sky", "road", "car", "new"]
    assert [round(y) for y in made[0].data[0].y] == [10, 20, 30, 40]


def test_one_validation_is_a_point_with_little_room_and_several_are_a_line(tmp_path: Path) -> None:
    write_run(tmp_path, "none", 0.5, loss="none")
    (row,) = table_of(tmp_path, [], None).rows
    once = figures.curves([row], {"none": Curves([(30, 0.5)], [], {}, None)}, "val", "miou", 100)
    often = figures.curves([row], {"none": Curves([(30, 0.5), (60, 0.6)], [], {}, None)}, "val", "miou", 100)
    assert once is not None and often is not None
    assert [one.mode for one in once.data] == ["markers", "lines+markers"]
    assert list(once.layout.xaxis.tickvals) == [30] and once.layout.height < 300 <= often.layout.height
    assert often.data[0].mode == "lines" and often.layout.xaxis.tickvals is None
