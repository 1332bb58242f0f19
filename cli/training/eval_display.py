"""What `kdtrain eval` shows: a table of classes, then the figures of the whole split."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcache.cache.errors import Refused
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


def keep_scores(terminal: Terminal, run_dir: Path, split: str, record: dict[str, Any]) -> None:
    """With the run, for tables. A folder that may only be read is no reason to fail: the figures are said."""
    from kdcache.trainer.folder.scores import write_scores

    try:
        write_scores(run_dir, split, record)
    except Refused as error:
        terminal.say(f"not kept with the run: {error.what}")
