"""What a message says of two values that differ, and of the command that makes a cache again."""

import pytest
from manifests import MAPS, manifest

from kdcache.cache.record.command import difference, repeat_words
from kdcache.cache.record.manifest import TapEntry
from kdcache.cache.views.sets import ViewSet
from kdcache.cache.visible import shell_line


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ([40, 48], [48, 48], "crop [40, 48], now it is [48, 48]"),
        (None, "flip", "crop none, now it is flip"),
        ({"name": "a", "n": 1}, {"name": "a", "n": 2}, "crop.n 1, now it is 2"),
        ({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}}, "crop.a.b 1, now it is 3; crop.c 2, now it is none"),
        (
            {"class_names": ["ape", "bee"], "task": "t"},
            {"class_names": ["ape", "bee", "cat"], "task": "t"},
            "crop.class_names 2, now it is 3 with cat",
        ),
        (["ape", "bee"], ["ape", "dog"], "crop 2 with bee, now it is 2 with dog"),
        (["ape", "bee"], ["bee", "ape"], "crop ['ape', 'bee'], now it is ['bee', 'ape']"),
    ],
)
def test_only_the_parts_that_differ_are_said_each_with_what_it_was_and_is(
    then: object, now: object, said: str
) -> None:
    assert difference("crop", then, now) == said


def test_a_long_value_or_list_is_cut_and_says_so() -> None:
    assert difference("x", "a" * 200, "b").startswith("x " + "a" * 80 + "..., now")
    many = [f"c{n}" for n in range(9)]
    assert difference("x", ["z"], many) == "x 1 with z, now it is 9 with c0, c1, c2, c3, c4 and 4 more"


def test_the_commands_that_make_a_cache_again_follow_the_order_in_which_its_views_came() -> None:
    first = ViewSet(kind="crops", first=0, count=3, crop=(40, 48), seed=5)
    full = ViewSet(kind="full", first=3, count=1)
    more = ViewSet(kind="crops", first=4, count=2, crop=(40, 48), seed=5, draw_first=3)
    mirror = ViewSet(kind="mirror", first=6, count=1)
    reduced = TapEntry(
        name="stage4.attention",
        tap="stage4",
        module="m",
        stride=8,
        channels=1,
        codec="fp16",
        reduction="a.b:c",
    )
    identity = {"recipe": "scale=0.5x2,flip"}
    made = manifest(views=(first, full, more, mirror), identity=identity, taps=(MAPS, reduced))
    start, crops, whole = repeat_words(made, ["afd(a=1,b=2)", "kd"])
    said = shell_line(start)
    assert "--views crops:3+full --seed 5 --augment scale=0.5x2,flip" in said
    assert "--tap stage4=int8 --for 'afd(a=1,b=2),kd'" in said, "no --tap asks for what is reduced"
    assert shell_line(crops) == "kdcache build --cache small --views crops:5 --seed 5"
    assert shell_line(whole) == "kdcache build --cache small --views full --mirror"
    assert "--for" not in repeat_words(made)[0]
