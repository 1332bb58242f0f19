"""A crop's size as a user writes it."""

import pytest

from kdcache.cache.errors import BadOption
from kdcache.cache.views.crop import parse_crop


def test_height_comes_before_width_and_one_number_is_a_square() -> None:
    assert parse_crop("360,480") == parse_crop("360x480") == parse_crop("360X480") == (360, 480)
    assert parse_crop("64") == (64, 64)


@pytest.mark.parametrize("text", ["big", "1,2,3", "-4", "4.5", "", "0", "8193", "8192,8193", "99999"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadOption) as caught:
        parse_crop(text)
    assert str(caught.value).splitlines() == [
        f"--crop cannot be {text}",
        f"  where: --crop {text}",
        "  fix:   give H,W in pixels up to 8192, such as 360,480, or one number for a square",
    ]
