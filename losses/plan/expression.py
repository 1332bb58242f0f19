"""The loss expression, text to terms: 'a+b', 'cwd(tau=4,weight=3)+kd', 'pkg.mod:Class(x=1)'.

    expression = term {'+' term}
    term       = name ['@' preset] ['(' [option '=' value {',' option '=' value}] ')']

Only the shape of the text is checked here; names and values are checked where the loss is known.
"""

import re
from typing import NamedTuple

from kdcache.cache.spec import BadOption

_TERM = re.compile(
    r"(?P<name>[A-Za-z_][\w.:-]*)\s*(?:@\s*(?P<preset>[\w-]+))?\s*(?:\((?P<options>[^()]*)\))?", re.ASCII
)
_EXAMPLE = "write terms like 'cwd(tau=4,weight=3)+kd' or 'afdcd@cityscapes'"


class ParsedTerm(NamedTuple):
    """One term as written. Values are text."""

    name: str
    preset: str | None
    options: dict[str, str]


def where_in(expression: str) -> str:
    """The second part of every error about an expression."""
    return f"loss expression '{expression}'"


def parse_expression(expression: str) -> list[ParsedTerm]:
    """Terms in the order written. BadOption when the text does not have the shape above."""
    if not expression.strip():
        raise BadOption(
            "the loss expression is empty",
            where=where_in(expression),
            fix="'none' trains without distillation",
        )
    return [_parse_term(text.strip(), expression) for text in _split_terms(expression)]


def _split_terms(expression: str) -> list[str]:
    """Split at every '+' outside brackets: 1e+5 is a legal value."""
    terms, depth = [""], 0
    for letter in expression:
        depth += (letter == "(") - (letter == ")")
        if depth not in (0, 1):
            break
        if letter == "+" and depth == 0:
            terms.append("")
        else:
            terms[-1] += letter
    if depth != 0:
        raise BadOption("brackets do not pair up", where=where_in(expression), fix=_EXAMPLE)
    return terms


def _parse_term(text: str, expression: str) -> ParsedTerm:
    match = _TERM.fullmatch(text)
    if match is None:
        what = f"'{text}' is not a loss term" if text else "a term is missing next to '+'"
        hint = "a factor is written as the option weight: 3*cwd is cwd(weight=3); " if "*" in text else ""
        raise BadOption(what, where=where_in(expression), fix=hint + _EXAMPLE)
    options: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in (match["options"] or "").split(","))):
        option, equals, value = (piece.strip() for piece in pair.partition("="))
        if not (option and equals and value):
            raise BadOption(
                f"'{pair}' in '{text}' is not option=value",
                where=where_in(expression),
                fix=f"for example {match['name']}(weight=2)",
            )
        if option in options:
            raise BadOption(
                f"option '{option}' is given twice in '{text}'",
                where=where_in(expression),
                fix="leave one of them out",
            )
        options[option] = value.strip("'\"")
    return ParsedTerm(match["name"], match["preset"], options)
