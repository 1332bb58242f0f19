"""Pieces of HTML. Every text that comes from data, a file or a command line passes `text`, nothing else
does."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence

from kdcache.cache.visible import visible
from kdcache.trainer.bench.page.examples import Example, Panel
from kdcache.trainer.bench.score_table import TEST, VAL, Row, ScoreTable
from kdcache.trainer.bench.score_text import EMPTY, difference_texts, spread_text
from kdcache.trainer.bench.statistics import Spread


def text(value: object) -> str:
    """Shown as it is: no tag, no entity, no character that turns the line around."""
    return html.escape(visible(value))


def notes_list(notes: Iterable[str]) -> str:
    lines = "".join(f"<li>{text(note)}</li>" for note in notes)
    return f'<ul class="notes">{lines}</ul>' if lines else ""


def score_rows(table: ScoreTable) -> str:
    """The table itself: a heading per student, a line per loss."""
    splits = (VAL, TEST) if table.has_test else (VAL,)
    heads = "".join(f'<th class="n">{text(table.metric)} on {split}, %</th>' for split in splits)
    head = (
        f'<tr><th>loss</th><th>views</th><th class="n">seeds</th>{heads}'
        f'<th class="n">&minus; none, {table.split}</th><th class="n">95 % interval</th><th>reading</th></tr>'
    )
    teachers = [row for row in table.rows if row.role]
    bodies = f"<tbody>{''.join(_score_row(row, splits) for row in teachers)}</tbody>"
    for student in dict.fromkeys(row.key.student for row in table.rows if not row.role):
        own = "".join(_score_row(row, splits) for row in table.rows if _is_of(row, student))
        title = f'<tr><th colspan="{6 + len(splits)}">student {text(student)}</th></tr>'
        bodies += f'<tbody class="student">{title}{own}</tbody>'
    return f'<div class="box"><table><thead>{head}</thead>{bodies}</table></div>'


def of_student(rows: Sequence[Row], student: str) -> list[Row]:
    return [row for row in rows if _is_of(row, student)]


def plain_table(headers: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """Of texts; the last `numbers` columns are right-aligned."""
    left = len(headers) - numbers
    mark = ["" if place < left else ' class="n"' for place in range(len(headers))]
    head = "".join(f"<th{m}>{text(one)}</th>" for m, one in zip(mark, headers, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{m}>{text(one)}</td>' for m, one in zip(mark, row, strict=True))}</tr>"
        for row in rows
    )
    return f'<div class="box"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def big_numbers(pairs: Iterable[tuple[str, str]]) -> str:
    """Figures with a line of words below each."""
    cells = "".join(f"<div><b>{text(figure)}</b><span>{text(words)}</span></div>" for figure, words in pairs)
    return f'<div class="numbers">{cells}</div>'


def example_html(example: Example) -> str:
    """Pictures with their titles below, so that they stand in line whatever a title's length; words are read
    after their title."""
    said = any(panel.words for panel in example.panels)
    panels = ""
    for panel in example.panels:
        title, shown = f"<span>{text(panel.title)}</span>", _panel(panel)
        panels += f"<div>{title}{shown}</div>" if said else f"<div>{shown}{title}</div>"
    kind = "example said" if said else "example"
    return f'<figure><figcaption>{text(example.key)}</figcaption><div class="{kind}">{panels}</div></figure>'


def swatches(colours: Mapping[str, tuple[int, int, int]]) -> str:
    """What colours stand for."""
    return (
        '<div class="swatches">'
        + " ".join(
            f'<span><i style="background:rgb({red},{green},{blue})"></i>{text(name)}</span>'
            for name, (red, green, blue) in colours.items()
        )
        + "</div>"
    )


def _panel(panel: Panel) -> str:
    if not panel.picture:
        return f'<div class="words{" wrong" if panel.wrong else ""}">{text(panel.words)}</div>'
    kind = "png" if panel.picture.startswith(b"\x89PNG") else "jpeg"
    encoded = base64.b64encode(panel.picture).decode()
    return f'<img alt="{text(panel.title)}" src="data:image/{kind};base64,{encoded}">'


def _is_of(row: Row, student: str) -> bool:
    return not row.role and row.key.student == student


def _score_row(row: Row, splits: Sequence[str]) -> str:
    kind = "teacher" if row.role else "plain" if row.is_stored_none or row.is_fresh_none else "method"
    difference, interval = difference_texts(row.difference)
    have, all_of = len(row.scores(VAL)), len(row.entries)
    seeds = EMPTY if row.role else str(have) if have == all_of else f"{have} of {all_of}"
    states = [f"seed {entry.seed}: {entry.state}" for entry in row.entries if not entry.finished]
    small = "".join(
        f"<small>{text(one)}</small>"
        for one in (row.key.student if row.role else row.options, *states)
        if one
    )
    if row.says_cache and row.key.cache:
        small += f"<small>{text(row.key.cache)}</small>"
    name = row.label if row.role else row.key.loss
    scores = "".join(_score_cell(row, split) for split in splits)
    word = row.verdict.partition(" ")[0]
    look = word if word in ("above", "below") else "other"
    return (
        f'<tr class="{kind}"><td class="name"><span class="name">{text(name)}</span>{small}</td>'
        f'<td>{text(row.key.pixels)}</td><td class="n">{seeds}</td>{scores}<td class="n">{difference}</td>'
        f'<td class="n">{interval}</td><td class="reading {look}">{text(row.verdict)}</td></tr>'
    )


def _score_cell(row: Row, split: str) -> str:
    spread: Spread | None = row.val if split == VAL else row.test
    each = " &middot; ".join(f"{100 * score:.2f}" for score in row.scores(split).values())
    several = f"<small>{each}</small>" if spread is not None and spread.num > 1 else ""
    return f'<td class="n">{text(spread_text(spread))}{several}</td>'
