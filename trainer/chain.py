"""A chain of students, each taught by the one before it: names of its runs, how far each of them is, and the
cache that a finished one left.

Sequential distillation (Mirzadeh et al. 2020: teacher, assistants, student) and reversed or defective
teachers (Yuan et al. 2020: a smaller or a barely trained one teaches) differ only in the order and in how
long each link trains.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kdcache.cache.errors import BadOption, Missing
from kdcache.cache.networks.names import parse_name
from kdcache.cache.networks.run import load_run_network
from kdcache.cache.networks.run_card import CARD, read_run_card
from kdcache.cache.networks.weights import weights_digest
from kdcache.cache.record.find import caches_dir, list_caches, runs_dir
from kdcache.cache.record.manifest import read_manifest
from kdcache.cache.sources.table import open_source
from kdcache.losses.plan.plan import needs_of
from kdcache.trainer.config import read_config
from kdcache.trainer.folder.home import absolute_spec, default_run_name
from kdcache.trainer.folder.run_folder import CONFIG_NAME
from kdcache.trainer.folder.start import continued

State = Literal["new", "begun", "finished"]


class Link(NamedTuple):
    """One network of a chain."""

    network: str
    epochs: float | None  # passes of this link alone; None: as the whole chain
    run: str  # folder under runs/


def read_links(texts: Sequence[str], *, prefix: str, loss: str, seed: int) -> tuple[Link, ...]:
    """'r101@30 r50 r18' -> links. A link's run is named after all links up to it, so that two chains with the
    same beginning share it. Raises BadOption.
    """
    if len(texts) < 2:
        raise BadOption(
            f"a chain of {len(texts)} network{'s' if len(texts) != 1 else ''}: nobody to teach",
            where=f"kdtrain chain {' '.join(texts)}",
            fix="name at least two, the first teacher first, such as: kdtrain chain r101 r50 r18 --data D",
        )
    links: list[Link] = []
    for place, text in enumerate(texts):
        network, at, given = text.rpartition("@") if "@" in text else (text, "", "")
        name = default_run_name(
            "-".join([prefix, *texts[: place + 1]]),
            loss if place else "none",
            fresh=False,
            online=False,
            seed=seed,
        )
        links.append(Link(network, _epochs(given, text) if at else None, name))
    return tuple(links)


def check_chain(links: Sequence[Link], *, data: str, loss: str) -> None:
    """Refuse now what would fail after the first link has trained. Raises BadOption, Missing."""
    source = open_source(absolute_spec(data), "train")
    for link in links:
        parse_name(link.network, where=f"kdtrain chain {link.network}", task=source.task)
    if not needs_of(loss, task=source.task):
        raise BadOption(
            f"loss '{loss}' reads no teacher, so the links would not teach each other",
            where=f"--loss {loss}",
            fix="choose a loss that reads one, such as kd; 'kdtrain methods' says what each reads",
        )


def state_of(home: Path, link: Link, given: Mapping[str, Any]) -> State:
    """How far a link is. Raises BadOption when it was begun under other options than `given`."""
    run_dir = runs_dir(home) / link.run
    if not (run_dir / CONFIG_NAME).is_file():
        return "new"
    continued({**given, "run": link.run}, home)
    if not (run_dir / CARD).is_file():
        return "begun"
    done = read_run_card(run_dir).metrics.get("final/step")
    return "finished" if done == read_config(run_dir).steps else "begun"


def cache_of(home: Path, link: Link) -> Path:
    """The newest cache under caches/ that holds the training samples as this link's exported network saw
    them. Raises Missing.
    """
    run_dir = runs_dir(home) / link.run
    weights = weights_digest(load_run_network(run_dir))
    caches = [
        root
        for root in list_caches(caches_dir(home))
        for manifest in [read_manifest(root)]
        if manifest.teacher_origin == link.run and manifest.identity["weights"] == weights
    ]
    if not caches:
        raise Missing(
            f"no cache of run '{link.run}'",
            where=str(caches_dir(home)),
            fix=f"build it: kdcache build --teacher {link.run}",
        )
    return max(caches, key=lambda root: root.stat().st_mtime)


def _epochs(given: str, text: str) -> float:
    try:
        epochs = float(given)
    except ValueError:
        epochs = 0.0
    if not epochs > 0:
        raise BadOption(
            f"'{given}' is no number of epochs",
            where=f"kdtrain chain {text}",
            fix="write NETWORK@EPOCHS, such as r101@30",
        )
    return epochs
