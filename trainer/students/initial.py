"""--init RUN: begin with another run's student and with the learned parts of its losses, by name and shape.

For methods in stages: a hint first and the rest after it, a self-supervised head before the distillation. The
student comes from the run's export (the best one), the learned parts from its last checkpoint.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run import load_run_network
from kdcache.losses.loss_set import LossSet
from kdcache.trainer.folder.checkpoint import load_latest
from kdcache.trainer.students.contract import SeveralStudents, deployed_of
from kdcache.trainer.students.exits import Exits

LOSSES = "losses."  # prefix of the learned parts in a checkpoint's distiller
PIXELS = "normalise."  # mean and std of pixels fit everywhere and are nothing that was learned
SHOWN = 3  # names in a sentence


class Taken(NamedTuple):
    """Names taken over, and why others were not."""

    names: list[str]
    left: list[str]


def take_over(student: nn.Module, losses: LossSet, run_dir: Path) -> str:
    """Copies what fits into the (deployed) student and the losses; the sentence that says what was taken.

    Raises Missing for a run without a student, BadWeights for damaged files, BadOption when nothing fits and
    for several students, of which one run's student could begin only one.
    """
    if isinstance(student, SeveralStudents) and not isinstance(student, Exits):
        raise BadOption(
            "--init holds one student, and this loss trains several",
            where=f"--init {run_dir.name}",
            fix="leave --init out: peers and branches begin apart from each other",
        )
    given = load_run_network(run_dir).state_dict()
    weights = _copy(given, deployed_of(student).state_dict())
    latest = load_latest(run_dir)
    distiller: Mapping[str, Tensor] = latest.states.get("distiller", {}) if latest is not None else {}
    parts = {name.removeprefix(LOSSES): v for name, v in distiller.items() if name.startswith(LOSSES)}
    learned = _copy(parts, losses.state_dict())
    if all(name.startswith(PIXELS) for name in (*weights.names, *learned.names)):
        raise BadOption(
            f"nothing of run '{run_dir.name}' fits this student or its losses: {_few(weights.left)}",
            where=f"--init {run_dir.name}",
            fix="name a run of the same student, or leave --init out",
        )
    text = f"begins with run '{run_dir.name}': {_said(weights, 'student tensors')}"
    return f"{text}; {_said(learned, 'tensors of its learned parts')}" if parts else text


def inherit(student: nn.Module, teacher: Network, said: str) -> str:
    """Copies what fits of the teacher's part behind its encoder, neck and head, into the student;
    gives the sentence that says what was taken.

    As FGD, MGD and GDD train one-stage students. Raises BadOption when nothing fits and for several students.
    """
    own = deployed_of(student)
    if isinstance(student, SeveralStudents) or not isinstance(own, Network) or own.encoder is None:
        several = isinstance(student, SeveralStudents)
        raise BadOption(
            "--inherit is for one student"
            + (", and this loss trains several" if several else " with an encoder that is known"),
            where="--inherit neck+head",
            fix="leave --inherit out",
        )
    encoders = tuple(f"model.{one.backbone_path}." for one in (own, teacher) if one.backbone_path)
    given = {n: v for n, v in teacher.state_dict().items() if not n.startswith((PIXELS, *encoders))}
    mine = {n: v for n, v in own.state_dict().items() if not n.startswith((PIXELS, *encoders))}
    taken = _copy(given, mine)
    if not taken.names:
        raise BadOption(
            f"nothing of {teacher.name} behind its encoder fits {own.name}: {_few(taken.left)}",
            where="--inherit neck+head",
            fix="take a teacher of the student's family and width, or leave --inherit out",
        )
    return f"neck and head begin with those of {said}: {_said(taken, 'tensors')}"


def _copy(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Taken:
    names, left = [], []
    for name, value in given.items():
        if name not in own:
            left.append(f"{name} (not here)")
        elif own[name].shape != value.shape:
            left.append(f"{name} ({_size(value)}, here {_size(own[name])})")
        else:
            with torch.no_grad():
                own[name].copy_(value)
            names.append(name)
    left += [f"{name} (not there)" for name in own if name not in given]
    return Taken(names, left)


def _said(taken: Taken, what: str) -> str:
    text = f"{len(taken.names)} {what} taken"
    return f"{text}, {len(taken.left)} not: {_few(taken.left)}" if taken.left else text


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _size(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "scalar"
