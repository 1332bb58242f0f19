"""From `--tap` and `--for` to what a cache keeps."""

from pathlib import Path
from typing import Any

import pytest

from kdcache.cache.build.options import BuildOptions, TapRequest, default_requests, parse_tap
from kdcache.cache.errors import BadOption
from kdcache.cache.spec import Need
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION


def options(**changed: Any) -> BuildOptions:
    return BuildOptions(**{"runs_dir": Path(), "caches_dir": Path(), "teacher": "t", **changed})


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("stage4", TapRequest("stage4")),
        ("stage4=int8", TapRequest("stage4", None, "int8")),
        ("stage4@backbone.layer4", TapRequest("stage4", "backbone.layer4")),
        ("stage4@body#3=pkg.mod:Codec", TapRequest("stage4", "body#3", "pkg.mod:Codec")),
    ],
)
def test_a_tap_is_a_name_a_place_and_a_codec(text: str, request_: TapRequest) -> None:
    assert parse_tap(text) == request_


@pytest.mark.parametrize("text", ["", "=int8", "a b", "@body", "stage4="])
def test_what_is_no_tap_is_refused(text: str) -> None:
    with pytest.raises(BadOption, match="is not a tap"):
        parse_tap(text)


def test_a_tap_that_is_named_wins_over_what_a_loss_needs() -> None:
    needs = (Need(tap="logits"), Need(tap="stage4"), Need(tap="stage4", reduction="m:mean"))
    asked: list[str] = []

    def needs_of(task: str) -> tuple[Need, ...]:
        asked.append(task)
        return needs

    given = options(taps=(parse_tap("stage4=fp32"),), needs_of=needs_of)
    requests = given.resolved(SEGMENTATION, ("stage4", "logits")).requests()
    assert requests == (
        TapRequest("stage4", None, "fp32"), TapRequest("logits"), TapRequest("stage4", reduction="m:mean"),
    )  # fmt: skip
    assert asked == [SEGMENTATION]


def test_a_tap_of_the_members_alone_is_one_of_each() -> None:
    taps = ("a.logits", "a.stage4", "b.logits", "b.stage4")
    resolved = options(taps=(parse_tap("logits=fp32"), parse_tap("b.stage4"))).resolved(SEGMENTATION, taps)
    assert resolved.requests() == (
        TapRequest("a.logits", None, "fp32"), TapRequest("b.logits", None, "fp32"), TapRequest("b.stage4"),
    )  # fmt: skip
    assert [r.tap for r in default_requests(CLASSIFICATION, taps)] == ["a.logits", "b.logits"]
    whole = options(taps=(parse_tap("logits"),)).resolved(SEGMENTATION, (*taps, "logits"))
    assert whole.requests() == (TapRequest("logits"),)


def test_what_nobody_named_is_what_the_teacher_has_of_the_tasks_own() -> None:
    assert [r.tap for r in default_requests(SEGMENTATION, ("stage3", "stage4", "logits"))] == [
        "stage4",
        "logits",
    ]
    assert [r.tap for r in default_requests(SEGMENTATION, ("stage1", "stage4"))] == ["stage4"]


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"amp": "fp8"}, "'fp8' is no precision"), ({"target_format": "hdf5"}, "'hdf5' is no format"),
        ({"batch_size": 0}, "0 is too small"), ({"threads": 0}, "0 is too small"),
        ({"shard_rows": -1}, "-1 is too small"), ({"teacher": None}, "no teacher was named"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused(changed: dict[str, object], what: str) -> None:
    with pytest.raises(BadOption, match=what):
        options(**changed)
