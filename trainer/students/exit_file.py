"""Exits in a run folder: `exits.safetensors` and `exits.json`, bound to the student they were trained with.

Writing: both under `.next` names -> the student's own export, which commits -> both renamed. Reading: the
description that names the student's weights, then the weights file that it names, each under either name.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import replace
from pathlib import Path
from typing import Annotated

import msgspec
from safetensors.torch import load_file
from torch import Tensor

from kdcache.cache.errors import BadWeights, Missing
from kdcache.cache.files.plain_json import MAX_BYTES
from kdcache.cache.files.regular import read_regular
from kdcache.cache.files.seal import opened_text, sealed_text
from kdcache.cache.files.system import sync
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run_card import file_digest, save_tensors
from kdcache.cache.networks.weights import weights_digest

WEIGHTS, CARD, NEXT = "exits.safetensors", "exits.json", ".next"
FORMAT, UNSEALED = 2, 1  # of before there were seals
MAX_EXITS = 64


class _Card(msgspec.Struct, frozen=True):
    """The description's JSON."""

    format: Annotated[int, msgspec.Meta(ge=UNSEALED, le=FORMAT)]
    form: str
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_EXITS)]
    student: str
    weights: str


@contextmanager
def exits_beside(
    run_dir: Path, network: Network, state: Mapping[str, Tensor], *, form: str, count: int
) -> Iterator[None]:
    """Around the export of `network`: its exits wait on disk before, and take their names after."""
    run_dir.mkdir(parents=True, exist_ok=True)
    weights, card = run_dir / f"{WEIGHTS}{NEXT}", run_dir / f"{CARD}{NEXT}"
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    save_tensors(plain, weights)
    described = {
        "format": FORMAT,
        "form": form,
        "count": count,
        "student": weights_digest(network),
        "weights": file_digest(weights),
    }
    card.write_text(sealed_text(described))
    sync(card)
    yield
    replace(weights, run_dir / WEIGHTS)
    replace(card, run_dir / CARD)
    sync(run_dir)


def read_exits(run_dir: Path, network: Network) -> tuple[str, int, dict[str, Tensor]]:
    """(form, count, state) of the exits that belong to `network`, the run's student.

    Raises Missing for a run without exits, BadWeights where none belong to this student.
    """
    cards = [path for path in (run_dir / CARD, run_dir / f"{CARD}{NEXT}") if path.is_file()]
    if not cards:
        raise Missing(
            f"run '{run_dir.name}' has no exits",
            where=str(run_dir / CARD),
            fix="train one with exits: kdtrain --loss byot; other runs are judged without --exit",
        )
    student = weights_digest(network)
    for card in cards:
        described = _parse(card)
        if described.student != student:
            continue
        for path in (run_dir / WEIGHTS, run_dir / f"{WEIGHTS}{NEXT}"):
            if path.is_file() and file_digest(path) == described.weights:
                return described.form, described.count, load_file(path)
    raise BadWeights(
        f"the exits of run '{run_dir.name}' are not those of its student {student[:8]}",
        where=str(run_dir / WEIGHTS),
        fix=f"let the run export again: kdtrain --run {run_dir.name} --resume, or train it again",
    )


def _parse(card: Path) -> _Card:
    try:
        content = read_regular(card, MAX_BYTES)
        return msgspec.convert(opened_text(content, unsealed=UNSEALED), type=_Card)
    except ValueError as damage:
        raise BadWeights(
            f"the description of the exits cannot be read: {damage}",
            where=str(card),
            fix="put the file back as it was, or train the run again under another name (--run NAME)",
        ) from damage
