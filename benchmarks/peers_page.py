"""What benchmarks/peers.py measured, for people: tables in Markdown, and a chart of what a job costs, in SVG.

The tables are spliced into docs/benchmarks.md as they are. The chart has the samples that students were
trained with on its x axis and seconds on its y axis: a teacher that is paid once is a step at 0, a live one a
slope.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from peers_ours import SIZES

Cells = Sequence[str]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 64, 190, 28, 52
COLOURS = ("#0b6e4f", "#c1440e", "#2a4b9b", "#8a5a00", "#6b2d7b", "#444444")
TICKS = 5


def markdown(result: Mapping[str, Any]) -> str:
    """Every part that was measured, with versions, and what is missing and why."""
    parts = []
    if rows := result.get("rows"):
        parts += [rows_table(rows), how_list(rows)]
    if streams := result.get("streams"):
        parts.append(streams_table(streams["measured"]))
    if jobs := result.get("jobs"):
        parts.append(jobs_table(jobs))
    if kills := result.get("kills"):
        parts.append(kills_table(kills["stores"]))
    parts += [missing_list(result)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Cells, rows: Sequence[Cells]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def number(value: float) -> str:
    """Three digits, never an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(value: float, ends: Sequence[float]) -> str:
    return f"{number(value)} ({number(ends[0])} .. {number(ends[1])})"


def rows_table(rows: Mapping[str, Any]) -> str:
    """Speed of memmap and bytes of raw, a column a size."""
    sizes = [key for key in SIZES if key in rows["sizes"]]
    names = list(dict.fromkeys(name for key in sizes for name in rows["sizes"][key]))
    head = ["store"]
    head += [f"{SIZES[key].title}: speed of memmap" for key in sizes]
    head += [f"{SIZES[key].title}: bytes of raw" for key in sizes]
    lines = []
    for name in names:
        measured = [rows["sizes"][key].get(name) for key in sizes]
        speeds = ["failed" if one is None else spread(one["speed"], one["speed_spread"]) for one in measured]
        kept = ["failed" if one is None else number(one["of_raw"]) for one in measured]
        lines.append([name, *speeds, *kept])
    return table(head, lines)


def how_list(rows: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(rows["versions"].items()))
    used = "\n".join(f"* {name}: {how}" for name, how in rows["how"].items())
    return f"{used}\n\nVersions: {versions}."


def streams_table(streams: Mapping[str, Any]) -> str:
    lines = [
        [name, number(1 / min(one["sample_s"])), spread(one["of_arrays"], one["of_arrays_spread"])]
        for name, one in streams.items()
    ]
    return table(["stream, 32x32", "best round, samples/s", "speed of arrays in memory"], lines)


def jobs_table(jobs: Mapping[str, Any]) -> str:
    lines = []
    for name, one in jobs["summary"].items():
        over = spread(one["over_hand"], one["over_hand_spread"]) if "over_hand" in one else ""
        seconds = number(sorted(one["seconds"])[len(one["seconds"]) // 2])
        score = "" if one["score"] is None else f"{one['score']:.3f}"
        lines.append([name, seconds, over, score])
    return table(["six ablations, whole job", "seconds", "of the hand loop", "mean accuracy"], lines)


def kills_table(stores: Mapping[str, Any]) -> str:
    head = ["store", "kills", "nothing opens", "kills after which rows are claimed that are not right"]
    head += [
        "such rows",
        "rows that are right, of all",
        "told to be kept and lost",
        "same command ends identical",
    ]
    lines = []
    for name, one in stores.items():
        kept = f"{100 * one['kept'] / max(1, one['kills'] * one['rows']):.0f} %"
        wrong, ended = one["wrong"] + one["unreadable"], one.get("finished_identical")
        bad = sum(
            1 for look in one["trials"] if look.get("wrong") or look.get("unreadable") or look.get("problems")
        )
        counts = [one["kills"], one["refused"], bad, wrong]
        same = "" if ended is None else f"{ended} of {one['kills']}"
        lines.append([name, *map(str, counts), kept, str(one["lost_of_said"]), same])
    return table(head, lines)


def missing_list(result: Mapping[str, Any]) -> str:
    """Never silently left out."""
    pairs = [
        (part, name, why)
        for part in ("rows", "streams", "jobs", "kills")
        for name, why in (result.get(part) or {}).get("missing", {}).items()
    ]
    return "\n".join(f"* {part}, {name}: {why}" for part, name, why in pairs)


# ---- the chart ---------------------------------------------------------------------------------------------


def points(
    parts: Sequence[Mapping[str, Any]], samples_a_run: int, num_runs: int
) -> list[tuple[float, float]]:
    """(samples trained with, seconds until then) of one round; a stretch that is no run adds no samples, and
    one that holds all of them adds all."""
    line = [(0.0, 0.0)]
    single = sum(1 for part in parts if _is_run(part))
    for part in parts:
        is_run, is_all = _is_run(part), not single and part is parts[-1]
        step = samples_a_run if is_run else samples_a_run * num_runs if is_all else 0
        line.append((line[-1][0] + step, line[-1][1] + part["seconds"]))
    return line


def _is_run(part: Mapping[str, Any]) -> bool:
    return part["label"] == "none" or part["label"].startswith("T=")


def chart(lines: Mapping[str, Sequence[tuple[float, float]]], title: str) -> str:
    """A line a contender, its name at its end."""
    most_x = max(x for line in lines.values() for x, _ in line) or 1.0
    most_y = max(y for line in lines.values() for _, y in line) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (WIDTH - LEFT - RIGHT) * x / most_x, (HEIGHT - TOP - BOTTOM) * y / most_y
        return round(LEFT + across, 1), round(HEIGHT - BOTTOM - up, 1)

    drawn = [
        _axes(most_x, most_y, place),
        f'<text x="{LEFT}" y="18" font-weight="bold">{escape(title)}</text>',
    ]
    heights: list[float] = []
    for (name, line), colour in zip(
        sorted(lines.items(), key=lambda one: -one[1][-1][1]), COLOURS, strict=False
    ):
        at = " ".join(f"{x},{y}" for x, y in (place(*point) for point in line))
        x, y = place(*line[-1])
        y = max([y, *(h + 15 for h in heights[-1:])])  # names do not cover each other
        heights.append(y)
        drawn.append(f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2"/>')
        label = f"{escape(name)} {number(line[-1][1])} s"
        drawn.append(f'<text x="{x + 6}" y="{y + 4}" fill="{colour}">{label}</text>')
    body = "\n".join(drawn)
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    font = 'font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>\n{body}\n</svg>\n'


def _axes(most_x: float, most_y: float, place: Any) -> str:
    (left, bottom), (right, top) = place(0, 0), place(most_x, most_y)
    drawn = [f'<path d="M{left},{top} V{bottom} H{right}" fill="none" stroke="#888"/>']
    for k in range(TICKS + 1):
        x, y = place(most_x * k / TICKS, most_y * k / TICKS)
        thousands = number(most_x * k / TICKS / 1000)
        drawn.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle" fill="#555">{thousands}</text>')
        drawn.append(
            f'<text x="{left - 6}" y="{y + 4}" text-anchor="end" fill="#555">{most_y * k / TICKS:.0f}</text>'
        )
    middle = (left + right) / 2
    below = "thousands of samples that students were trained with"
    drawn.append(f'<text x="{middle}" y="{bottom + 40}" text-anchor="middle">{below}</text>')
    drawn.append(f'<text x="14" y="{top - 6}">seconds</text>')
    return "\n".join(drawn)
