"""Which weights a student begins with."""

import pytest

from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.trainer.students import student
from kdcache.trainer.students.options import StudentOptions
from kdcache.trainer.students.student import build_student


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, "imagenet"), ({"weights": "none"}, "none"), ({"init": "first"}, "none")],
)
def test_a_student_that_a_run_gives_asks_no_hub_for_a_backbone(
    options: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(student, "build_network", lambda name, **given: asked.append(given["weights"]))
    monkeypatch.setattr(student, "settle_encoder", lambda network, options, **given: None)
    chosen = StudentOptions(student="r18", **options)  # type: ignore[arg-type]
    build_student(chosen, num_classes=3, output_stride=8, task=SEGMENTATION)
    assert asked == [expected]
