"""Text that came from data, a file or a command line, so that whoever reads it sees what it holds.

A key, a class name or a path may hold characters that a terminal obeys (ESC sets the window's title), that
turn the text around (U+202E), that end a line and begin one that nobody wrote, or that no encoding can write
(half of a surrogate pair, which is how Python keeps a byte of a file name that is no UTF-8). What `repr`
would escape is escaped here, and nothing else: 'Tür' and '猫' stay as they are.
"""

import shlex
from collections.abc import Iterable

INDENT = " " * 11  # of the lines behind an error's first 'fix:' line; a folder's layout
_ESCAPED_BYTES = range(0xDC80, 0xDD00)  # what 'surrogateescape' makes of the bytes 0x80 to 0xFF


def visible(text: object) -> str:
    """One line of printable characters: '\\x1b', '\\n', '\\u202e' where a character is none. Text that is
    visible already stays as it is, so this may be said twice."""
    line = str(text)
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def visible_lines(text: str) -> str:
    """The same for a text whose lines are ours: a line goes on behind `INDENT` alone, which no data at the
    left edge can pretend."""
    return f"\n{INDENT}".join(visible(line) for line in text.split(f"\n{INDENT}"))


def drawable(text: object) -> str:
    """The same for the font of pictures, which has no letters but Latin ones and draws one box for all
    others: '\\u732b' tells classes apart."""
    return visible(text).encode("latin-1", "backslashreplace").decode("latin-1")


def shell_word(text: str) -> str:
    """`shlex.quote`, and $'...' of bash, zsh and ksh for what could not be seen: the word can be copied."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(_in_quotes(c) for c in text) + "'"


def shell_line(words: Iterable[str]) -> str:
    """A command to type, as `shlex.join`."""
    return " ".join(map(shell_word, words))


def _in_quotes(character: str) -> str:
    """One character between $' and '."""
    code = ord(character)
    if character in "'\\":
        return f"\\{character}"
    if character.isprintable():
        return character
    if code in _ESCAPED_BYTES:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
