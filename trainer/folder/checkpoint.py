"""Checkpoints: everything that a run needs to continue exactly, whole or not there.

Layout: `checkpoints/step-XXXXXXXX/{<part>.pt ..., progress.json, digests.json}`; XXXXXXXX counts finished
steps. Writing: parts into a temporary folder -> fsync of every file and of the folder -> rename -> fsync of
the parent -> all but the last `KEPT` removed. A kill leaves at most a temporary folder, which nothing reads
and the next start sweeps. Random number generators are not saved: every draw is seeded by (seed, micro step,
rank).
"""

import json
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kdcache.cache.errors import BadWeights, Refused
from kdcache.cache.files.system import AGAIN, GONE, sync, touching
from kdcache.cache.networks.files.weights_file import DAMAGE, read_tensors
from kdcache.cache.networks.run_card import file_digest
from kdcache.cache.trust import current_command, typed_option
from kdcache.cache.visible import shell_line
from kdcache.trainer.folder.checkpoint_shape import read_digests, read_progress, state_problem
from kdcache.trainer.folder.run_folder import CONFIG_NAME, began_only

FOLDER = "checkpoints"
KEPT = 2
_TEMPORARY = ".tmp-"
_NAME = re.compile(r"^step-(\d{8,})$")


class Checkpoint(NamedTuple):
    """What was saved: states by part name (state_dicts), and plain progress values."""

    step: int  # finished steps
    states: dict[str, Any]
    progress: dict[str, Any]


def save_checkpoint(
    run_dir: Path, *, step: int, states: Mapping[str, Any], progress: Mapping[str, Any]
) -> Path:
    """Write the checkpoint of `step` finished steps and return its folder. Raises DiskFull, Refused."""
    folder = run_dir / FOLDER
    final, temporary = folder / f"step-{step:08d}", folder / f"{_TEMPORARY}step-{step:08d}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with touching(
            f"the checkpoint of step {step} could not be written", final, again=again_with(run_dir)
        ):
            temporary.mkdir(parents=True)
            _write_parts(temporary, states, progress)
            if (
                final.exists()
            ):  # a resumed run that repeats this step: its bytes replace those of the same step
                shutil.rmtree(final)
            os.replace(temporary, final)
            sync(folder)
    except Refused:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):  # an empty folder would be a run that exists
            folder.rmdir()
        raise
    for old in list_checkpoints(run_dir)[:-KEPT]:
        shutil.rmtree(old)
    return final


def list_checkpoints(run_dir: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    folder = run_dir / FOLDER
    finished = [path for path in folder.iterdir() if _NAME.match(path.name)] if folder.is_dir() else []
    return sorted(finished, key=_step_of)


def load_latest(run_dir: Path) -> Checkpoint | None:
    """The newest checkpoint, every file checked, tensors on the CPU. None when there is none.

    Raises BadWeights naming the damaged file: which checkpoint to go back to is the user's choice, not ours.
    """
    finished = list_checkpoints(run_dir)
    if not finished:
        return None
    folder = finished[-1]
    digests = _read_digests(folder)
    for name, stored in sorted(digests.items()):
        _check_digest(folder / name, stored)
    parts = sorted(name for name in digests if name.endswith(".pt"))
    states = {name.removesuffix(".pt"): _load_part(folder / name) for name in parts}
    try:
        progress = read_progress(folder / "progress.json")
    except Refused:
        raise
    except (OSError, ValueError) as error:
        raise _damaged(folder / "progress.json", f"cannot be read: {error}") from error
    return Checkpoint(_step_of(folder), states, progress)


def going_on(run_dir: Path) -> str:
    """How a run that ended early goes on, and from where, with the command to type: a sentence."""
    finished = list_checkpoints(run_dir)
    if finished:
        return (
            f"the last checkpoint is that of step {_step_of(finished[-1])}, go on with: {_command(run_dir)}"
        )
    if _is_taken(run_dir):
        return f"there is no checkpoint yet, begin again with: {_command(run_dir)}"
    return "there is no checkpoint yet, the same command begins again"


def again_with(run_dir: Path) -> str:
    """The same as what to do, behind the 'then' of an error's fix."""
    if finished := list_checkpoints(run_dir):
        return f"go on from step {_step_of(finished[-1])} with: {_command(run_dir)}"
    return f"begin again with: {_command(run_dir)}" if _is_taken(run_dir) else AGAIN


def _command(run_dir: Path) -> str:
    typed = list(current_command()) or ["kdtrain"]
    typed += [] if typed_option("--run") or typed_option("--name") else ["--run", run_dir.name]
    return shell_line([*typed, *([] if "--resume" in typed else ["--resume"])])


def _is_taken(run_dir: Path) -> bool:
    """Whether a new run under this name is refused."""
    return (run_dir / CONFIG_NAME).is_file() and not began_only(run_dir)


def sweep(run_dir: Path) -> None:
    """Remove what a killed save left behind."""
    for litter in (run_dir / FOLDER).glob(f"{_TEMPORARY}*"):
        shutil.rmtree(litter)


def _write_parts(folder: Path, states: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
    for name, state in states.items():
        with (folder / f"{name}.pt").open("wb") as file:  # torch's own writer forgets the system's error
            torch.save(state, file)
    (folder / "progress.json").write_text(json.dumps(dict(progress), indent=1, sort_keys=True) + "\n")
    digests = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
    (folder / "digests.json").write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n")
    for path in sorted(folder.iterdir()):
        sync(path)
    sync(folder)


def _step_of(folder: Path) -> int:
    match = _NAME.match(folder.name)
    assert match, folder
    return int(match[1])


def _read_digests(folder: Path) -> dict[str, str]:
    path = folder / "digests.json"
    try:
        digests = read_digests(path)
    except (*GONE, ValueError) as error:
        raise _damaged(path, f"cannot be read: {error}") from error
    if "progress.json" not in digests:
        raise _damaged(path, "does not list progress.json")
    return digests


def _check_digest(path: Path, stored: str) -> None:
    try:
        actual = file_digest(path) if path.is_file() else "no file"
    except ValueError as error:  # of a terabyte of holes no digest is taken
        raise _damaged(path, f"cannot be read: {error}") from error
    if actual != stored:
        raise _damaged(path, f"has another digest (stored {stored[:12]}..., found {actual[:12]}...)")


def _load_part(path: Path) -> Any:
    # weights_only: a checkpoint holds tensors and plain containers, and loading one can run no code.
    try:
        with touching(f"'{path.name}' cannot be read", path):
            state = read_tensors(path)
    except Refused:
        raise
    except pickle.UnpicklingError as error:
        raise _damaged(path, "holds more than tensors and plain values, and is not loaded") from error
    except DAMAGE as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise _damaged(path, f"cannot be read: {first}") from error
    if problem := state_problem(state):
        raise _damaged(path, problem)
    return state


def _damaged(path: Path, why: str) -> BadWeights:
    return BadWeights(
        f"checkpoint file '{path.name}' {why}",
        where=str(path),
        fix=f"delete {path.parent} and --resume again: the checkpoint before it is used",
    )
