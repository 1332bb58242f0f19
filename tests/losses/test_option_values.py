"""Values of options as people write them: which text is which value, what is refused, what is written."""

from typing import Annotated, Literal

import pytest

from kdcache.cache.spec import BadOption
from kdcache.losses.contract import LossTerm, Maps
from kdcache.losses.options import (
    About,
    Count,
    OptionValue,
    Pair,
    Positive,
    Share,
    option_specs,
    read_options,
    written,
)


class Every(LossTerm):
    """One option of each kind."""

    def __init__(
        self,
        maps: Maps,
        *,
        tau: Annotated[Positive, About("temperature")] = 1.0,
        share: Share = 0.5,
        groups: Count = 4,
        patch: Pair = (4, 4),
        relu: bool = True,
        form: Literal["plain", "enhanced"] = "plain",
        pool: int | Literal["auto"] = "auto",
        tap: str = "neck",
    ) -> None:
        super().__init__()


SPECS = option_specs(Every)
LEGAL: list[tuple[str, str, OptionValue]] = [
    ("tau", "0.07", 0.07),
    ("tau", "1e-3", 1e-3),
    ("share", "0", 0.0),
    ("share", "1", 1.0),
    ("groups", "1", 1),
    ("patch", "3", (3, 3)),
    ("patch", "2x3", (2, 3)),
    ("relu", "true", True),
    ("relu", "False", False),
    ("form", "enhanced", "enhanced"),
    ("pool", "auto", "auto"),
    ("pool", "2", 2),
    ("tap", "stage4", "stage4"),
]
REFUSED = [
    ("tau", "0", "a number above 0"),
    ("tau", "nan", "a number above 0"),
    ("tau", "inf", "a number above 0"),
    ("share", "1.01", "a number from 0 to 1"),
    ("share", "-0.1", "a number from 0 to 1"),
    ("groups", "0", "a whole number from 1"),
    ("groups", "2.5", "a whole number from 1"),
    ("patch", "2x3x4", "N or HxW from 1"),
    ("patch", "0x2", "N or HxW from 1"),
    ("relu", "yes", "true or false"),
    ("form", "grand", "'plain' or 'enhanced'"),
]


@pytest.mark.parametrize(("option", "text", "value"), LEGAL)
def test_a_text_is_the_value_that_it_says_and_is_written_back_as_it(
    option: str, text: str, value: OptionValue
) -> None:
    read = read_options("every", SPECS, {option: text}, where="tests")
    assert read == {option: value} and type(read[option]) is type(value)
    assert read_options("every", SPECS, {option: written(value)}, where="tests") == {option: value}


@pytest.mark.parametrize(("option", "text", "legal"), REFUSED)
def test_a_value_outside_of_what_an_option_takes_is_refused_with_what_it_takes(
    option: str, text: str, legal: str
) -> None:
    with pytest.raises(BadOption) as caught:
        read_options("every", SPECS, {option: text}, where="tests")
    assert caught.value.what == f"option '{option}' of 'every' takes {legal}, not '{text}'"


def test_an_unknown_option_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadOption, match="unknown option of 'every' 'grups'") as caught:
        read_options("every", SPECS, {"grups": "2"}, where="tests")
    assert "did you mean 'groups'?" in caught.value.fix


@pytest.mark.parametrize("number", [0.1234567890123, 1e-6, 8e-6, 3.0, 1 / 3])
def test_a_number_is_written_with_all_its_digits(number: float) -> None:
    assert float(written(number)) == number
