"""The drawings of a report, by plotly. Whatever came from data is escaped first: plotly reads tags in texts.

Colours are Okabe and Ito's (2008), told apart by colour-blind people too; the undistilled student is grey,
the teacher black. From the ninth row on the lines are dashed.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from kdcache.cache.visible import visible
from kdcache.trainer.bench.curves import Curves
from kdcache.trainer.bench.ledger import CacheAccount
from kdcache.trainer.bench.page.analysis import BINS, Analysis
from kdcache.trainer.bench.score_table import Row
from kdcache.trainer.bench.score_text import MINUS

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c510a", "#5e3c99")
GREY, LIGHT_GREY, BLACK = "#6b7280", "#a3a9b3", "#111827"
DASHES = ("solid", "dash", "dot", "dashdot")
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"
LINE_PX, FRAME_PX = 34, 96  # of a drawing with a line per row
MOST_CLASSES = 24  # in a drawing of bars
MOST_REACH = 3  # of an interval in the frame, beside the dots
LONG_NAME = 26  # characters of a label


class Look(NamedTuple):
    colour: str
    dash: str


def looks_of(rows: Sequence[Row]) -> dict[str, Look]:
    """Row name -> its look in every drawing."""
    looks: dict[str, Look] = {}
    losses = list(dict.fromkeys(row.label for row in rows if not _is_plain(row)))
    for row in rows:
        if row.role:
            looks[row.name] = Look(BLACK, "dot")
        elif row.is_stored_none:
            looks[row.name] = Look(GREY, "solid")
        elif row.is_fresh_none:
            looks[row.name] = Look(LIGHT_GREY, "dash")
        else:
            place = losses.index(row.label)
            looks[row.name] = Look(PALETTE[place % len(PALETTE)], DASHES[place // len(PALETTE) % len(DASHES)])
    return looks


def differences(rows: Sequence[Row], metric: str, split: str) -> go.Figure | None:
    """Paired differences to `none`: each seed a dot, the mean with its interval. None without any pair."""
    shown = [row for row in rows if row.difference is not None]
    if not shown:
        return None
    looks, drawn = looks_of(rows), go.Figure()
    for place, row in enumerate(shown):
        assert row.difference is not None
        look, spread = looks[row.name], row.difference
        dots = [100 * value for value in row.differences.values()]
        drawn.add_scatter(
            x=dots, y=[place] * len(dots), mode="markers", showlegend=False,
            hovertemplate="%{text}: %{x:+.2f}",
            text=[f"seed {seed}" for seed in row.differences], name="",
            marker={"color": look.colour, "opacity": 0.35, "size": 8},
        )  # fmt: skip
        half = 0.0 if spread.high is None else 100 * (spread.high - spread.mean)
        drawn.add_scatter(
            x=[100 * spread.mean], y=[place], mode="markers", showlegend=False, name="",
            hovertemplate=f"{_text(row.verdict)}: %{{x:+.2f}} {_text(chr(177))} {half:.2f}",
            error_x={"type": "constant", "value": half, "thickness": 2, "width": 7, "visible": half > 0},
            marker={"color": look.colour, "size": 12, "symbol": "diamond" if half else "circle-open"},
        )  # fmt: skip
    drawn.add_vline(x=0, line={"color": BLACK, "width": 1})
    # Two lines: beside names there is no room for one on a small screen.
    title = f"{_text(metric)} {MINUS} none<br>points of %, on {split}"
    drawn.update_xaxes(title=title, range=_frame(shown), automargin=True)
    drawn.update_yaxes(**_named([row.label for row in shown]), range=[len(shown) - 0.5, -0.5])
    return _laid_out(drawn, FRAME_PX + LINE_PX * len(shown))


def scores(rows: Sequence[Row], metric: str, teachers: Sequence[Row], split: str) -> go.Figure | None:
    """Every seed's score on a split, the mean as a bar beside them, the teacher as a line. None without
    scores."""
    shown = [row for row in rows if row.scores(split)]
    if not shown:
        return None
    looks, drawn = looks_of(rows), go.Figure()
    for place, row in enumerate(shown):
        of_seeds = {seed: 100 * value for seed, value in row.scores(split).items()}
        colour = looks[row.name].colour
        drawn.add_scatter(
            x=list(of_seeds.values()), y=[place] * len(of_seeds), mode="markers", showlegend=False, name="",
            text=[f"seed {seed}" for seed in of_seeds], hovertemplate="%{text}: %{x:.2f} %",
            marker={"color": colour, "opacity": 0.45, "size": 9},
        )  # fmt: skip
        drawn.add_scatter(
            x=[sum(of_seeds.values()) / len(of_seeds)], y=[place], mode="markers", showlegend=False, name="",
            hovertemplate="mean %{x:.2f} %",
            marker={"color": colour, "symbol": "line-ns", "size": 20, "line": {"width": 3, "color": colour}},
        )  # fmt: skip
    for teacher in teachers:
        for score in teacher.scores(split).values():
            label = {"text": "teacher", "font": {"size": 12}, "yanchor": "bottom"}
            drawn.add_vline(
                x=100 * score, line={"color": BLACK, "width": 1.5, "dash": "dot"}, annotation=label
            )
    drawn.update_xaxes(title=f"{_text(metric)} on {split}, %")
    drawn.update_yaxes(**_named([row.label for row in shown]), range=[len(shown) - 0.5, -0.5])
    return _laid_out(drawn, FRAME_PX + LINE_PX * len(shown))


def curves(
    rows: Sequence[Row], of_run: Mapping[str, Curves], which: str, title: str, scale: float
) -> go.Figure | None:
    """`which` of the curves of every run; a row has one colour and one entry in the legend."""
    looks, drawn, longest = looks_of(rows), go.Figure(), 0
    for row in rows:
        look = {"color": looks[row.name].colour, "dash": looks[row.name].dash}
        of_row = {e.run: points for e in row.entries if (points := getattr(of_run.get(e.run), which, []))}
        for run, points in of_row.items():
            longest = max(longest, len(points))
            drawn.add_scatter(
                x=[step for step, _ in points], y=[scale * value for _, value in points],
                mode="lines" if len(points) > 1 else "markers",  # a line of one point is nothing
                line={**look, "width": 1}, opacity=0.4, legendgroup=row.name, showlegend=False,
                hovertemplate=f"{_text(run)}, step %{{x}}: %{{y:.2f}}<extra></extra>",
            )  # fmt: skip
        if means := _means(list(of_row.values())):
            drawn.add_scatter(
                x=list(means), y=[scale * value for value in means.values()], line={**look, "width": 2.4},
                mode="lines" if len(means) > 20 else "lines+markers", marker={"size": 6},
                legendgroup=row.name, name=_text(row.label),
                hovertemplate=f"{_text(row.label)}, mean, step %{{x}}: %{{y:.2f}}<extra></extra>",
            )  # fmt: skip
    if not drawn.data:
        return None
    if longest > 1:
        drawn.update_xaxes(title="step", rangemode="tozero")
    else:  # nothing is learnt along one point: room for the points alone
        drawn.update_xaxes(
            title="step", tickmode="array", tickvals=sorted({x for one in drawn.data for x in one.x})
        )
    drawn.update_yaxes(title=title, automargin=True)
    return _laid_out(drawn, 380 if longest > 1 else 240, legend=True)


def classes(
    rows: Sequence[Row],
    of_row: Mapping[str, Mapping[str, float]],
    title: str,
    order: Sequence[str] = (),
) -> tuple[go.Figure, int] | None:
    """Means over seeds per class, and how many classes are left out: those in which rows differ least.
    Classes stand in `order`."""
    shown = [row for row in rows if of_row.get(row.name)]
    there = dict.fromkeys(name for row in shown for name in of_row[row.name])
    names = list(dict.fromkeys([*(name for name in order if name in there), *there]))
    if not names:
        return None
    chosen = set(sorted(names, key=lambda name: -_range(name, of_row))[:MOST_CLASSES])
    kept = [name for name in names if name in chosen]
    looks, drawn = looks_of(rows), go.Figure()
    for row in shown:
        values = [of_row[row.name].get(name) for name in kept]
        drawn.add_bar(
            x=list(range(len(kept))), text=[_text(name) for name in kept], textposition="none",
            y=[None if v is None else 100 * v for v in values],
            name=_text(row.label), marker={"color": looks[row.name].colour},
            hovertemplate="%{text}: %{y:.2f} %",
        )  # fmt: skip
    drawn.update_yaxes(title=_text(title), rangemode="tozero", automargin=True)
    # Turned so that a name ends at its place: one that begins there runs off the right edge.
    drawn.update_xaxes(**_named(kept), autotickangles=[0, -45, -90])
    drawn.update_layout(barmode="group", bargap=0.25)
    return _laid_out(drawn, 420, legend=True), len(names) - len(kept)


def ledger(account: CacheAccount) -> go.Figure | None:
    """Teacher forwards run by run: with the cache a level, without it a staircase. None without runs."""
    if not account.asked:
        return None
    total, heights = 0, [0]
    for _, images in account.asked:
        total += images
        heights.append(total)
    numbers = list(range(len(heights)))
    names = ["", *(_text(run) for run, _ in account.asked)]
    drawn = go.Figure()
    drawn.add_scatter(
        x=numbers, y=heights, mode="lines+markers", name="a live teacher", text=names,
        line={"color": PALETTE[1], "width": 2}, hovertemplate="after %{text}: %{y} images<extra></extra>",
    )  # fmt: skip
    drawn.add_scatter(
        x=numbers, y=[account.paid] * len(numbers), mode="lines", name="this cache",
        line={"color": PALETTE[0], "width": 2}, hovertemplate="%{y} images, once<extra></extra>",
    )  # fmt: skip
    if account.break_even is not None:
        label = {"text": f"break-even: run {account.break_even}", "font": {"size": 12}}
        drawn.add_vline(
            x=account.break_even, line={"color": GREY, "dash": "dot"}, annotation=label,
            annotation_position="top left",
        )  # fmt: skip
    drawn.update_xaxes(title="runs that read the teacher", dtick=max(1, len(numbers) // 12))
    drawn.update_yaxes(title="images through the teacher", rangemode="tozero", automargin=True)
    return _laid_out(drawn, 340, legend=True)


def similarities(analysis: Analysis, looks: Mapping[str, Look]) -> go.Figure:
    """The distribution of cosines within patches, a line per network."""
    centres = [-1 + (2 * place + 1) / BINS for place in range(BINS)]
    first = next(
        (place for place in range(BINS) if any(one.shares[place] > 1e-3 for one in analysis.networks)), 0
    )
    drawn = go.Figure()
    for one in analysis.networks:
        look = looks.get(one.name, Look(BLACK, "dot"))
        drawn.add_scatter(
            x=centres[first:], y=[100 * share for share in one.shares[first:]], mode="lines",
            name=_text(one.name), line={"color": look.colour, "dash": look.dash, "width": 2},
            hovertemplate="cosine %{x:.2f}: %{y:.1f} % of pairs",
        )  # fmt: skip
    drawn.update_xaxes(title="cosine of two cells of a patch")
    drawn.update_yaxes(title="pairs, %", rangemode="tozero", automargin=True)
    return _laid_out(drawn, 380, legend=True)


def _laid_out(drawn: go.Figure, height: int, *, legend: bool = False) -> go.Figure:
    """One look for all of them."""
    drawn.update_layout(
        template="plotly_white", height=height, showlegend=legend, autosize=True,
        hoverlabel={"align": "left"},
        font={"family": FONT, "size": 13, "color": BLACK}, margin={"l": 8, "r": 12, "t": 24, "b": 48},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
    )  # fmt: skip
    drawn.update_xaxes(
        title_font_size=13, zeroline=False, ticks="outside", tickcolor="#d1d5db", linecolor="#d1d5db"
    )
    drawn.update_yaxes(title_font_size=13, zeroline=False)
    return drawn


def drawn_html(drawn: go.Figure, number: int) -> str:
    """Its part of a page that holds plotly's script already."""
    settings: dict[str, Any] = {"responsive": True, "displaylogo": False, "displayModeBar": False}
    text: str = drawn.to_html(
        full_html=False, include_plotlyjs=False, div_id=f"drawing-{number}", config=settings,
        default_width="100%", default_height=f"{drawn.layout.height}px",
    )  # fmt: skip
    return text


def _text(text: str) -> str:
    """What plotly shows as it is: it obeys tags, and knows no '&quot;'."""
    plain = visible(text)
    short = plain if len(plain) <= LONG_NAME else f"{plain[: LONG_NAME - 1]}\u2026"
    return html.escape(short, quote=False)


def _frame(rows: Sequence[Row]) -> list[float]:
    """Ends of the axis of differences: every dot, and of an interval at most some times their reach."""
    dots = [abs(value) for row in rows for value in row.differences.values()]
    ends = [abs(end) for row in rows if row.difference for end in row.difference[-2:] if end is not None]
    reach = min(max([*dots, *ends]), MOST_REACH * max(dots)) or 0.01
    return [-110 * reach, 110 * reach]


def _means(of_runs: Sequence[Sequence[tuple[int, float]]]) -> dict[int, float]:
    """Step -> mean over the runs, at steps that all of them have."""
    if not of_runs:
        return {}
    tables = [dict(points) for points in of_runs]
    steps = [step for step, _ in of_runs[0] if all(step in table for table in tables)]
    return {step: sum(table[step] for table in tables) / len(tables) for step in steps}


def _named(names: Sequence[str]) -> dict[str, Any]:
    """An axis of places 0, 1 ..., each with its name: names that are cut alike stay places of their own."""
    texts = list(map(_text, names))
    return {"tickmode": "array", "tickvals": list(range(len(texts))), "ticktext": texts, "automargin": True}


def _range(name: str, of_row: Mapping[str, Mapping[str, float]]) -> float:
    values = [values[name] for values in of_row.values() if name in values]
    return max(values) - min(values) if values else 0.0


def _is_plain(row: Row) -> bool:
    return bool(row.role) or row.is_stored_none or row.is_fresh_none
