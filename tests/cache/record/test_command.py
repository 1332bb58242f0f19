"""What a message says of two values that differ, and of the command that makes a cache again."""

import pytest

from kdcache.cache.record.command import difference


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
