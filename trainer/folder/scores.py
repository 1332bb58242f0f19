"""`scores/<split>.json`: what the exported student of a run reached on a split, sealed.

The file names the student by the digest of its weights: scores of another student, of before the run went
on, are none.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.files.plain_json import MAX_BYTES
from kdcache.cache.files.regular import read_regular
from kdcache.cache.files.seal import opened_text, sealed_text
from kdcache.cache.files.system import touching
from kdcache.cache.networks.run_card import read_run_card
from kdcache.cache.visible import shell_line
from kdcache.trainer.folder.atomic_file import RUN_AGAIN, write_text

FOLDER = "scores"
FORMAT = 1
_SPLIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def scores_path(run_dir: Path, split: str) -> Path:
    """Raises BadOption for a split that is no plain word."""
    if not _SPLIT.fullmatch(split):
        raise BadOption(f"'{split}' is no split", where=f"--split {split}", fix="use val, test or train")
    return run_dir / FOLDER / f"{split}.json"


def write_scores(run_dir: Path, split: str, judged: Mapping[str, Any]) -> None:
    """Keep plain figures of the run's exported student; replaces older ones. Raises DiskFull and Refused."""
    path = scores_path(run_dir, split)
    with touching("the scores could not be kept", path.parent, again=RUN_AGAIN):
        path.parent.mkdir(exist_ok=True)
    table = {"format": FORMAT, "judged": dict(judged), "student": read_run_card(run_dir).weights_digest}
    write_text(path, sealed_text(table))


def read_scores(run_dir: Path, split: str) -> Mapping[str, Any] | None:
    """The figures; None where the split was not judged, or another student was. Raises BadCache for a file
    that was changed."""
    path = scores_path(run_dir, split)
    if not path.is_file():
        return None
    try:
        table = opened_text(read_regular(path, MAX_BYTES, what="the scores"), unsealed=None)
        if not isinstance(table.get("judged"), dict) or table.get("format") != FORMAT:
            raise ValueError(f"not the scores of format {FORMAT}")
    except ValueError as error:
        again = shell_line(["kdtrain", "eval", run_dir.name, "--split", split])
        raise BadCache(
            f"the run's scores on {split} cannot be read: {error}",
            where=str(path),
            fix=f"judge the run again: {again}",
        ) from error
    judged: Mapping[str, Any] = table["judged"]
    return judged if table.get("student") == read_run_card(run_dir).weights_digest else None
