"""What a reader sees of a text that came from data, and what a shell makes of a word that was copied."""

import subprocess
import sys
import unicodedata

import pytest
from PIL import Image, ImageDraw, ImageFont

from kdcache.cache.errors import BadOption
from kdcache.cache.sources.contract import indented
from kdcache.cache.visible import drawable, shell_line, visible

OBEYED = {
    "\x1b]0;owned\x07": r"\x1b]0;owned\x07",
    "\x9b31m": r"\x9b31m",
    "a\nerror: b\r\tc\0\x7f": r"a\nerror: b\r\tc\x00\x7f",
    "\u202etxt.exe\u2066\u200f\u061c": r"\u202etxt.exe\u2066\u200f\u061c",
    "\u2028\u2029\x85\xa0": r"\u2028\u2029\x85\xa0",
    "\udcff\ud800\U000e0041": r"\udcff\ud800\U000e0041",
}


@pytest.mark.parametrize(("text", "seen"), OBEYED.items(), ids=[ascii(seen) for seen in OBEYED.values()])
def test_what_a_terminal_would_obey_is_seen(text: str, seen: str) -> None:
    assert visible(text) == seen
    assert visible(seen) == seen and visible(f"{seen}\0") == rf"{seen}\x00"  # said twice, seen once


def test_letters_of_every_script_stay_as_they_are() -> None:
    for text in ("plain [b]text[/b] \\x1b :smile:", "Tür, 猫, кот, قطة, בית, ไก่, 🐈", "C:\\new"):
        assert visible(text) == text


def test_no_character_that_is_no_sign_is_let_through() -> None:
    """Of all of Unicode: controls, formats, surrogates, private ones, separators but the space."""
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    kinds = {c: unicodedata.category(c) for c in set(visible(every))}
    assert [c for c, kind in kinds.items() if kind[0] == "C" or (kind[0] == "Z" and c != " ")] == []


def test_an_error_has_three_lines_whatever_its_parts_hold_and_keeps_the_parts() -> None:
    evil = "a\n  fix:   rm -rf ~\x1b[2J"
    error = BadOption(f"no '{evil}'", where=evil, fix=f"use '{evil}'")
    seen = r"a\n  fix:   rm -rf ~\x1b[2J"
    assert str(error) == f"no '{seen}'\n  where: {seen}\n  fix:   use '{seen}'"
    assert (error.what, error.where, error.fix) == (f"no '{evil}'", evil, f"use '{evil}'")


def test_the_layout_of_a_folder_keeps_its_lines() -> None:
    layout = indented("a/*.jpg\n  b/*.png")
    text = str(BadOption("x", where="y", fix=f"the layout is\n{layout}"))
    assert text.splitlines()[2:] == [
        "  fix:   the layout is", "           a/*.jpg", "           b/*.png",
    ]  # fmt: skip


WORDS = (
    "plain",
    "two words",
    "it's",
    "a\nb",
    "\x1b]0;t\x07",
    "back\\slash\t",
    "\u202eabc",
    "\udcff1",
    "\x856'",
)


def test_a_command_that_was_copied_hands_the_very_words_to_a_program() -> None:
    """bash reads $'...' as it is meant; every byte arrives."""
    line = shell_line(["printf", "%s\\0", *WORDS])
    assert line.isprintable() and line.startswith("printf '%s\\0' plain 'two words' ")
    got = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    assert got.stdout.split(b"\0")[:-1] == [word.encode("utf-8", "surrogateescape") for word in WORDS]


@pytest.mark.parametrize("text", [*OBEYED, "猫", "кот", "🐈", "Tür"])
def test_a_font_without_a_letter_draws_what_tells_it_apart(text: str) -> None:
    """Also the bitmap font of a Pillow without FreeType, which refuses what is not Latin."""
    drawn = drawable(text)
    assert drawn.isprintable() and "\n" not in drawn
    draw = ImageDraw.Draw(Image.new("RGB", (300, 40)))
    draw.text((0, 0), drawn, font=ImageFont.load_default_imagefont())
    draw.text((0, 0), drawn)
    assert drawable("猫") == r"\u732b" and drawable("Tür") == "Tür"
