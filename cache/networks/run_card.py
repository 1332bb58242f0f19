"""What a run folder says about its best student: network.json beside student.safetensors.

Two files cannot be replaced in one step, so the card carries the digest of the weights and is the commit:
the new weights wait under another name, the card is renamed over, then the weights are. A reader that comes
after a kill between the two renames finds the waiting weights by the card's digest and finishes the job.

The card ends in a seal. A card of format 1, of before there were seals, is read without.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from safetensors.torch import save_file
from torch import Tensor

from kdcache.cache.errors import BadWeights, Missing, Refused
from kdcache.cache.files.plain_json import MAX_BYTES
from kdcache.cache.files.regular import open_regular, read_regular
from kdcache.cache.files.seal import opened_text, sealed_text
from kdcache.cache.files.system import sync, touching
from kdcache.cache.files.tensors import check_tensor_file
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.network_config import NetworkConfig
from kdcache.cache.sources.table import split_spec
from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import read_task
from kdcache.cache.visible import shell_line, shell_word

CARD = "network.json"
STUDENT = "student.safetensors"
WAITING = "student.safetensors.next"
FORMAT, UNSEALED = 2, 1
LISTED_CLASSES = 5  # of those that differ


Side = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
Text = Annotated[str, msgspec.Meta(max_length=4096)]


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """Of a card's JSON what no other reader checks."""

    data: Text
    class_names: Annotated[tuple[Text, ...], msgspec.Meta(max_length=1 << 16)]
    crop: tuple[Side, Side]
    output_stride: Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]
    weights_digest: Text
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCard:
    """`network` is a NetworkConfig as a dictionary, `crop` is (height, width) in pixels."""

    network: Mapping[str, object]
    data: str  # 'camvid:/abs/dir'
    class_names: tuple[str, ...]
    crop: tuple[int, int]
    output_stride: int
    weights_digest: str = ""  # SHA-256 of student.safetensors; filled in when saved
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def config(self) -> NetworkConfig:
        return NetworkConfig.from_dict(self.network)

    @property
    def task(self) -> Task:
        return self.config.task


class DataClasses(NamedTuple):
    """The classes of data, and the data as --data names them."""

    names: tuple[str, ...]
    spec: str


def other_classes(of_run: Sequence[str], of_data: Sequence[str]) -> str:
    """How the classes of data differ from those of a run, in words; '' where they are the same."""
    more = [name for name in of_data if name not in set(of_run)]
    fewer = [name for name in of_run if name not in set(of_data)]
    words = [f"{kind} {_listed(names)}" for kind, names in (("have also", more), ("lack", fewer)) if names]
    if words:
        return f"the data {' and '.join(words)}"
    place = next((i for i, pair in enumerate(zip(of_run, of_data, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        return ""
    return f"class {place} is '{of_run[place]}' in the run and '{of_data[place]}' in the data"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED_CLASSES} more" if len(names) > LISTED_CLASSES else ""
    return ", ".join(f"'{name}'" for name in names[:LISTED_CLASSES]) + more


def same_data(spec: str, other: str) -> bool:
    """Whether two values of --data name the same folder."""
    (name, folder), (other_name, other_folder) = split_spec(spec), split_spec(other)
    return name == other_name and Path(folder).resolve() == Path(other_folder).resolve()


def classes_fix(run: str, card: RunCard, spec: str) -> str:
    """What to do where the classes of the data `spec` are not those of a run."""
    if not same_data(spec, card.data):
        return f"use the data of the run: --data {shell_word(card.data)}"
    words = ["kdtrain", "--loss", "none", "--student", card.config.name, "--data", spec, "--run", f"{run}-2"]
    return (
        "these are the data of the run, changed since: put their classes back, or train a teacher on them "
        f"as they are now: {shell_line(words)}"
    )


def save_run_network(run_dir: Path, network: Network, card: RunCard) -> RunCard:
    """Writes weights and card so that a reader sees both old or both new; returns the card with its digest.

    `card.network` and `card.weights_digest` are taken from the network, whatever they held.
    """
    with touching("the student could not be exported", run_dir):
        return _save(run_dir, network, card)


def _save(run_dir: Path, network: Network, card: RunCard) -> RunCard:
    run_dir.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().cpu().clone().contiguous() for name, tensor in network.state_dict().items()
    }
    waiting = run_dir / WAITING
    save_tensors(state, waiting)
    saved = replace(card, network=network.config.to_dict(), weights_digest=file_digest(waiting))
    written = {"format": FORMAT, **asdict(saved), "task": saved.task}
    draft = run_dir / f"{CARD}.next"
    draft.write_text(sealed_text(written))
    sync(draft)
    draft.replace(run_dir / CARD)
    waiting.replace(run_dir / STUDENT)
    sync(run_dir)
    return saved


def save_tensors(state: Mapping[str, Tensor], path: Path) -> None:
    """A safetensors file, on disk when this returns, that follows the umask: safetensors makes it private."""
    path.unlink(missing_ok=True)
    path.touch()
    mode = path.stat().st_mode
    # One entry only: safetensors writes several in an order of its own mood, and the digest would change.
    save_file(dict(state), path, metadata={"format": "pt"})
    path.chmod(mode)
    sync(path)


def read_run_card(run_dir: Path) -> RunCard:
    """The card, its weights checked against its digest. Raises Missing for no finished run, BadWeights
    otherwise.
    """
    path = run_dir / CARD
    if not path.is_file():
        raise Missing(
            f"run '{run_dir.name}' has no trained network yet",
            where=str(path),
            fix=f"let the run reach its first evaluation: kdtrain --run {run_dir.name} --resume",
        )
    card = _parse(path)
    _settle(run_dir, card)
    return card


def student_weights(run_dir: Path) -> Path:
    """The checked weights file of a run folder."""
    read_run_card(run_dir)
    return run_dir / STUDENT


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hex, about 1 GB/s. Raises Refused where it cannot be read."""
    with touching(f"'{path.name}' cannot be read", path), open_regular(path) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _parse(path: Path) -> RunCard:
    try:
        raw = opened_text(read_regular(path, MAX_BYTES), unsealed=UNSEALED)
        task = read_task(raw, where=str(path))  # cards of before there were two do not name theirs
        written, known = {*raw, "task"} - {"format"}, {"task", *(entry.name for entry in fields(RunCard))}
        if raw["format"] not in (FORMAT, UNSEALED) or written != known:
            raise ValueError(f"not the fields of format {FORMAT}")
        body = msgspec.convert(raw, type=_Body)
        config = NetworkConfig.from_dict(raw["network"], where=str(path))
        if config.task != task:
            raise ValueError(f"a network for {config.task} in a run of {task}")
        return RunCard(
            network=config.to_dict(),
            data=body.data,
            class_names=body.class_names,
            crop=body.crop,
            output_stride=body.output_stride,
            weights_digest=body.weights_digest,
            metrics=body.metrics,
        )
    except Refused:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as damage:
        raise BadWeights(
            f"the run's description cannot be read: {damage}",
            where=str(path),
            fix="put the file back as it was, or train the run again under another name (--run NAME)",
        ) from damage


def _digest_of(path: Path) -> str:
    """Raises BadWeights for a file that is no file of tensors, before all of it is read."""
    try:
        check_tensor_file(path)
        return file_digest(path)
    except Refused:
        raise
    except (OSError, ValueError) as damage:
        raise BadWeights(
            f"not a whole safetensors file: {damage}", where=str(path), fix="copy or download it again"
        ) from damage


def _settle(run_dir: Path, card: RunCard) -> None:
    student, waiting = run_dir / STUDENT, run_dir / WAITING
    digest = _digest_of(student) if student.is_file() else "no file"
    if digest == card.weights_digest:
        return
    if waiting.is_file() and _digest_of(waiting) == card.weights_digest:
        waiting.replace(student)
        return
    raise BadWeights(
        f"other teacher weights under a run's name: run '{run_dir.name}' says {card.weights_digest[:8]}, "
        f"the file is {digest[:8]}",
        where=str(student),
        fix="put the run's own weights back, or train it again under another name (--run NAME)",
    )
