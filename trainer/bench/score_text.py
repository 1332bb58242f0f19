"""The table of an ablation as words: columns of text for people, CSV, Markdown and JSON for programs."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from kdcache.cache.visible import visible
from kdcache.trainer.bench.score_table import TEST, VAL, Row, ScoreTable
from kdcache.trainer.bench.statistics import Spread

MINUS, PLUS_MINUS = "\u2212", "\u00b1"
EMPTY = "\u2013"
MINUS_NONE, INTERVAL, READING = f"{MINUS} none", "95 % interval", "reading"  # headers


NAMES = ("student", "loss", "options", "cache")  # headers of the parts of a row's name
GAP = "  "  # between columns


class Cells(NamedTuple):
    headers: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def without(self, *headers: str) -> "Cells":
        """Fewer columns."""
        kept = [place for place, header in enumerate(self.headers) if header not in headers]
        rows = [tuple(row[place] for place in kept) for row in self.rows]
        return Cells(tuple(self.headers[place] for place in kept), rows)

    @property
    def widths(self) -> list[int]:
        """Characters of each column."""
        return [
            max(len(visible(one)) for one in column) for column in zip(self.headers, *self.rows, strict=True)
        ]

    @property
    def width(self) -> int:
        return sum(self.widths) + len(GAP) * (len(self.headers) - 1)

    def lines(self) -> list[str]:
        """The headers and a line per row, nothing broken."""
        widths = self.widths
        return [
            GAP.join(visible(one).ljust(width) for one, width in zip(line, widths, strict=True)).rstrip()
            for line in (self.headers, *self.rows)
        ]


def cells(table: ScoreTable) -> Cells:
    """Short texts. Scores are in percent, differences in points of percent."""
    splits = (VAL, TEST) if table.has_test else (VAL,)
    with_options = any(row.key.options for row in table.rows)
    headers = ["student", "loss", *(["options"] if with_options else []), "views"]
    headers += ["cache"] if table.several_caches else []
    headers += ["seeds", *(f"{split} {table.metric} %" for split in splits)]
    headers += [MINUS_NONE, INTERVAL, READING]
    rows = []
    for row in table.rows:
        line = [
            row.key.student,
            row.label if row.role else row.key.loss,
            *([row.options] if with_options else []),
        ]
        line += [row.key.pixels, *([row.key.cache] if table.several_caches else []), seeds_text(row)]
        line += [spread_text(row.val if split == VAL else row.test) for split in splits]
        line += [*difference_texts(row.difference), row.verdict]
        rows.append(tuple(line))
    return Cells(tuple(headers), rows)


def csv_lines(table: ScoreTable) -> list[str]:
    """One line per row, numbers at full length."""
    records = [_flat(record) for record in json_record(table)["rows"]]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    # A line is a record: what would end one is made visible.
    writer.writerows({name: visible(value) for name, value in record.items()} for record in records)
    return text.getvalue().splitlines()


def markdown_lines(table: ScoreTable) -> list[str]:
    """A pipe table, and the notes below it."""
    shown = cells(table)
    lines = [_piped(shown.headers), _piped(["---"] * len(shown.headers)), *map(_piped, shown.rows)]
    return [*lines, "", *(f"- {_escaped(note)}" for note in table.notes)]


def json_lines(table: ScoreTable) -> list[str]:
    return json.dumps(json_record(table), indent=1).splitlines()


def json_record(table: ScoreTable) -> dict[str, Any]:
    """Every figure, as ratios in 0..1; null where there is none."""
    return {
        "title": table.title,
        "metric": table.metric,
        "differences_on": table.split,
        "rows": [_record(row) for row in table.rows],
        "notes": list(table.notes),
    }


def spread_text(value: Spread | None) -> str:
    """'71.20 +- 0.31', mean and standard deviation in percent; the mean alone of one seed."""
    if value is None:
        return EMPTY
    mean = f"{100 * value.mean:.2f}"
    return mean if value.deviation is None else f"{mean} {PLUS_MINUS} {100 * value.deviation:.2f}"


def difference_texts(value: Spread | None) -> tuple[str, str]:
    """'+1.20' and '+0.30 to +2.10', in points of percent."""
    if value is None:
        return EMPTY, EMPTY
    if value.low is None or value.high is None:
        return signed(value.mean), EMPTY
    return signed(value.mean), f"{signed(value.low)} to {signed(value.high)}"


def signed(ratio: float) -> str:
    """In points of percent, with a sign that is no hyphen."""
    return f"{100 * ratio:+.2f}".replace("-", MINUS)


def seeds_text(row: Row) -> str:
    """'3', or '2 of 3' where some have no score."""
    if row.role:
        return EMPTY
    have = len(row.scores(VAL))
    return str(have) if have == len(row.entries) else f"{have} of {len(row.entries)}"


def summary(table: ScoreTable) -> str:
    """What the table allows to say, in one or two sentences."""
    compared = [row for row in table.rows if row.verdict and not row.is_fresh_none]
    words: dict[str, list[str]] = {}
    for row in compared:
        words.setdefault(row.verdict, []).append(table.name_of(row))
    said = [f"{verdict}: {', '.join(names)}" for verdict, names in sorted(words.items())]
    if not said:
        return f"{len(table.entries)} runs, without a pair to compare."
    return f"By {table.metric} on {table.split}, over equal seeds. {_sentence('; '.join(said))}"


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _record(row: Row) -> dict[str, Any]:
    return {
        "student": row.key.student,
        "loss": row.label if row.role else row.key.loss,
        "options": dict(row.key.options),
        "views": row.key.pixels,
        "cache": row.key.cache,
        "runs": [
            {"run": e.run, "seed": e.seed, VAL: e.val, TEST: e.test, "state": e.state} for e in row.entries
        ],
        VAL: _spread_record(row.val),
        TEST: _spread_record(row.test),
        "difference": _spread_record(row.difference),
        "reading": row.verdict,
    }


def _spread_record(value: Spread | None) -> dict[str, float | None] | None:
    return None if value is None else dict(value._asdict())


def _flat(record: dict[str, Any]) -> dict[str, str]:
    """One line of CSV: what is nested gets names such as 'val_mean'."""
    flat = {name: record[name] for name in ("student", "loss", "views", "cache", "reading")}
    flat["options"] = ", ".join(f"{name}={value}" for name, value in record["options"].items())
    flat["runs"] = " ".join(one["run"] for one in record["runs"])
    for name in (VAL, TEST, "difference"):
        numbers = record[name] or dict.fromkeys(Spread._fields)
        flat |= {f"{name}_{part}": "" if value is None else str(value) for part, value in numbers.items()}
    return {name: str(value) for name, value in flat.items()}


def _piped(texts: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escaped, texts))} |"


def _escaped(text: str) -> str:
    """Characters that Markdown or the HTML in it would obey, as themselves."""
    plain = visible(text)
    for one in "\\`*_{}[]<>#|":
        plain = plain.replace(one, f"\\{one}")
    return plain
