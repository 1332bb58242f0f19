"""The report as one HTML file: everything in it, nothing fetched, sections that have nothing to say left
out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from kdcache.cache.errors import size_text
from kdcache.trainer.bench.curves import Curves
from kdcache.trainer.bench.ledger import CacheAccount
from kdcache.trainer.bench.page import figures
from kdcache.trainer.bench.page.analysis import Analysis
from kdcache.trainer.bench.page.examples import Example
from kdcache.trainer.bench.page.parts import (
    big_numbers,
    example_html,
    notes_list,
    of_student,
    plain_table,
    score_rows,
    swatches,
    text,
)
from kdcache.trainer.bench.page.style import CSS
from kdcache.trainer.bench.score_table import Row, ScoreTable
from kdcache.trainer.bench.score_text import summary

# Nothing is fetched, whatever a text holds: styles, scripts and pictures are those of the file.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All that a page shows."""

    table: ScoreTable
    data: str  # what the runs are of
    curves: Mapping[str, Curves]  # by run
    class_title: str  # 'IoU %'
    classes: Mapping[str, Mapping[str, float]]  # row -> class -> mean over seeds
    classes_on: str  # the split of these
    class_names: Sequence[str]  # in the order of the class map
    accounts: Sequence[CacheAccount]
    builds: Mapping[str, str]  # cache -> the commands that build it, a line each
    versions: Mapping[str, Sequence[str]]  # what ran -> its versions among the runs
    examples: Sequence[Example] = ()
    colours: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    analysis: Analysis | None = None
    notes: Sequence[str] = ()  # what is left out, and why


class Page:
    """Sections in order, drawings numbered."""

    def __init__(self, contents: Contents) -> None:
        self.contents, self.table = contents, contents.table
        self._num_drawings = 0
        self._sections: list[tuple[str, str, str]] = []  # anchor, title, HTML

    def html(self) -> str:
        for anchor, title, made in (
            ("scores", "Scores", self._scores()),
            ("differences", "Differences to the undistilled student", self._differences()),
            ("curves", "Learning curves", self._curves()),
            ("classes", "Classes", self._classes()),
            ("pictures", "What the networks say", self._pictures()),
            ("analysis", "Features", self._analysis()),
            ("ledger", "What the cache cost and saved", self._ledger()),
            ("repeat", "To repeat this", self._repeat()),
        ):
            if made:
                self._sections.append((anchor, title, made))
        links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in self._sections)
        bodies = "".join(f'<h2 id="{anchor}">{title}</h2>{made}' for anchor, title, made in self._sections)
        title = f"Distillation on {self.contents.data}"
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{text(title)}</title><style>{CSS}</style><script>{get_plotlyjs()}</script></head>"
            f'<body><main><h1>{text(title)}</h1><p class="lead">{text(summary(self.table))}</p>'
            f"<nav>{links}</nav>{bodies}"
            f"<footer>{text(self.table.title)}, {len(self.table.entries)} runs. Made by kdtrain report."
            "</footer></main></body></html>\n"
        )

    def _drawn(self, drawing: Figure | None, caption: str = "") -> str:
        if drawing is None:
            return ""
        self._num_drawings += 1
        words = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
        inner = figures.drawn_html(drawing, self._num_drawings)
        return f'<figure><div class="drawing">{inner}</div>{words}</figure>'

    def _each_student(self) -> list[tuple[str, list[Row]]]:
        """Heading, '' where there is one student alone, and rows."""
        names = self.table.students
        return [
            (f"<h3>student {text(name)}</h3>" if len(names) > 1 else "", of_student(self.table.rows, name))
            for name in names
        ]

    def _scores(self) -> str:
        teachers = [row for row in self.table.rows if row.role]
        drawings = [
            title + self._drawn(figures.scores(rows, self.table.metric, teachers, self.table.split))
            for title, rows in self._each_student()
        ]
        said = (
            f"{self.table.metric} in percent, mean \u00b1 standard deviation over seeds, every seed below. "
            "Val chose each run's student, so scores on val lean to the good side. Intervals are of "
            "Student's t, of the mean difference over equal seeds."
        )
        notes = notes_list([*self.table.notes, *self.contents.notes])
        return f'{score_rows(self.table)}<p class="soft">{text(said)}</p>{notes}{"".join(drawings)}'

    def _differences(self) -> str:
        drawings = []
        for title, rows in self._each_student():
            if drawn := self._drawn(figures.differences(rows, self.table.metric, self.table.split)):
                drawings.append(title + drawn)
        said = (
            "Each run minus the run with loss none of the same seed on the same stored views. Dots are "
            "seeds, a diamond is their mean with its 95 % interval; a ring is one seed, which has none. "
            "Intervals much wider than the dots are cut by the frame; the table has their ends."
        )
        return f"<p>{text(said)}</p>{''.join(drawings)}" if drawings else ""

    def _curves(self) -> str:
        made = ""
        for title, rows in self._each_student():
            val = figures.curves(rows, self.contents.curves, "val", f"{self.table.metric} on val, %", 100)
            loss = figures.curves(rows, self.contents.curves, "supervised", "supervised loss", 1)
            drawn = self._drawn(val, "Every run's validations.") + self._drawn(
                loss,
                "The supervised part of the loss without its weight, on training views.",
            )
            made += title + drawn if drawn else ""
        return made

    def _classes(self) -> str:
        made = ""
        for title, rows in self._each_student():
            shown = [*(row for row in self.table.rows if row.role), *rows]
            drawn = figures.classes(
                shown, self.contents.classes, self.contents.class_title, self.contents.class_names
            )
            if drawn is not None:
                caption = f"On {self.contents.classes_on}, means over seeds."
                caption += f" {drawn[1]} classes that differ less are left out." if drawn[1] else ""
                made += title + self._drawn(drawn[0], caption)
        return made

    def _pictures(self) -> str:
        if not self.contents.examples:
            return ""
        said = "Images spread evenly over val, picked by nobody; of each row the run with the lowest seed."
        pictures = "".join(map(example_html, self.contents.examples))
        return f"<p>{said}</p>{swatches(self.contents.colours) if self.contents.colours else ''}{pictures}"

    def _analysis(self) -> str:
        analysis = self.contents.analysis
        if analysis is None:
            return ""
        of_rows = figures.looks_of(self.table.rows)
        looks = {self.table.name_of(row): of_rows[row.name] for row in self.table.rows if not row.role}
        drawn = self._drawn(
            figures.similarities(analysis, looks), "Self-similarity within patches of 4 x 4 cells."
        )
        rows = [
            [
                one.name,
                f"{one.mean:.3f}",
                *(
                    "\u2013" if v is None else f"{v:.3f}"
                    for v in (one.similarity_distance, one.feature_distance)
                ),
            ]
            for one in analysis.networks
        ]
        headers = ["network", "mean cosine", "distance of self-similarity", "distance of features"]
        said = (
            f"At tap {analysis.tap}, on {analysis.num_images} whole images of val, of each row the run "
            "with the lowest seed. Distance of self-similarity: mean difference of cosines to the teacher's. "
            "Distance of features: 1 - linear CKA to the teacher's, 0: equal but for turns and scale."
        )
        return f"<p>{text(said)}</p>{drawn}{plain_table(headers, rows, numbers=3)}"

    def _ledger(self) -> str:
        made = "".join(self._account(account) for account in self.contents.accounts)
        times = []
        for row in self.table.rows:
            for entry in row.entries:
                curves = self.contents.curves.get(entry.run)
                if curves is not None and curves.seconds is not None and entry.config is not None:
                    per_step = 1000 * curves.seconds / max(1, entry.config.steps or 1)
                    times.append(
                        [entry.run, str(entry.config.steps), f"{per_step:.0f}", _time_text(curves.seconds)]
                    )
        if times:
            made += (
                "<details><summary>Time of each run</summary>"
                + plain_table(["run", "steps", "ms a step", "all steps"], times, numbers=3)
                + '<p class="soft">Without validation and saving; runs that shared a machine were slower.</p>'
                "</details>"
            )
        return made

    def _account(self, account: CacheAccount) -> str:
        even = "not yet" if account.break_even is None else f"run {account.break_even}"
        numbers = [
            (f"{account.paid:,}", "images through the teacher, once"),
            (f"{account.without:,}", f"without the cache, in {len(account.asked)} runs"),
            (even, "break-even"),
            (size_text(account.num_bytes), "on disk"),
        ]
        digests = plain_table(["entry", "digest"], [list(pair) for pair in account.digests.items()])
        return (
            f"<h3>cache {text(account.cache)}, teacher {text(account.teacher)}</h3>{big_numbers(numbers)}"
            + self._drawn(
                figures.ledger(account),
                f"{account.rows:,} stored rows. What the teacher's own training cost is not counted.",
            )
            + f"<details><summary>Digests of what is stored</summary>{digests}</details>"
        )

    def _repeat(self) -> str:
        made = "".join(
            f"<h3>cache {text(cache)}</h3><pre>{chr(10).join(map(text, commands.splitlines()))}</pre>"
            for cache, commands in self.contents.builds.items()
        )
        for row in self.table.rows:
            lines = [command for entry in row.entries if (command := entry.command())]
            if lines:
                shown = "\n".join(map(text, lines))
                made += (
                    f"<details><summary>{text(self.table.name_of(row))}</summary><pre>{shown}</pre></details>"
                )
        versions = plain_table(
            ["what", "versions"],
            [[name, ", ".join(all_of)] for name, all_of in self.contents.versions.items()],
        )
        return f"{made}<details><summary>Versions</summary>{versions}</details>"


def _time_text(seconds: float) -> str:
    """'2 h 05 min', '3 min 10 s'."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
