"""What `kdtrain eval` shows: a table of classes, then the figures of the whole split."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kdcache.cli.terminal import Table, Terminal

if TYPE_CHECKING:
    from kdcache.trainer.run import Judged


def show_judged(terminal: Terminal, judged: "Judged", split: str, exit_number: int | None) -> None:
    from kdcache.trainer.judge.metrics import shown

    metrics, what = judged.metrics, judged.run_dir.name
    if exit_number is not None:
        what += f", exit {exit_number}"
    terminal.say(f"{what} on {judged.data}, {split}: {metrics.num_images} images")
    if judged.teacher:
        terminal.say(judged.teacher)
    table = Table("class", metrics.per_class_title, box=None)
    for name, ratio in metrics.per_class.items():
        table.add_row(name, "absent" if math.isnan(ratio) else f"{100 * ratio:.2f}")
    terminal.show(table)
    for name, value in metrics.named().items():
        terminal.say(f"{name} {shown(name, value)}")


def judged_record(judged: "Judged", split: str, exit_number: int | None) -> dict[str, Any]:
    """The same as plain values; what cannot be said, such as of a class that never occurs, is null."""
    metrics = judged.metrics
    classes, figures = _finite(metrics.per_class), _finite(metrics.named())
    chosen = {} if exit_number is None else {"exit": exit_number}
    return {
        "data": judged.data,
        "split": split,
        **chosen,
        **figures,
        metrics.per_class_key: classes,
        "num_images": metrics.num_images,
    }


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: None if math.isnan(value) else value for name, value in figures.items()}
