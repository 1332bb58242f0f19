"""Weights files: reading them without running what they hold, fitting them to a network, telling them apart.

A file may hold a whole network (this project's names, with or without the leading 'model.') or a backbone
alone in timm's (or torchvision's) names. Which of them it is shows in how many names agree.
"""

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kdcache.cache.errors import BadWeights, Missing, nearest
from kdcache.cache.networks.network import Network

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
WRAPPERS = ("state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")  # left by DistributedDataParallel and torch.compile
SIDE_HEADS = ("aux_head.", "aux_classifier.")  # may be in a file although the network was built without
NUM_SHOWN = 3
METADATA = (
    "kdcache.mean",
    "kdcache.std",
)  # JSON lists in a safetensors header: statistics these weights expect


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """Named tensors and where they came from; mean and std where the file states them."""

    state: Mapping[str, Tensor] = field(repr=False)
    origin: str
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


def read_weights(path: Path) -> WeightsFile:
    """Raises Missing for no file, BadWeights for one that is damaged, holds code, or holds no named
    tensors.
    """
    if not path.is_file():
        raise Missing(
            f"no weights file '{path}'", where="--weights", fix="give the path of a .safetensors or .pt file"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return WeightsFile(state=_peel(_read_pickle(path), path), origin=str(path))


def fit_weights(network: Network, file: WeightsFile, *, fresh_head: bool = False) -> bool:
    """Copies the tensors into the network, cast to its precision; True when the classifier was among them.

    `fresh_head`: a classifier of other classes stays in the file, and the network's own is left as it is.
    Raises BadWeights listing missing, unexpected (with the nearest own name) and misshapen tensors; the
    network is then as it was.
    """
    own = network.state_dict()
    state = file.state if network.adapt is None else network.adapt(file.state)
    prefix, is_backbone = _best_prefix(network, state, own)
    given = {prefix + name: tensor for name, tensor in state.items()}
    if is_backbone:
        given = _backbone_names(given, own, {prefix + name for name in network.backbone_extras})
    given = {
        n: t for n, t in given.items() if n in own or not n.removeprefix("model.").startswith(SIDE_HEADS)
    }
    wanted = {n for n in own if n.startswith(prefix) and not n.endswith("num_batches_tracked")}
    head = {n for n in own if n.startswith(tuple(f"model.{path}." for path in network.heads))}
    if network.heads and not _agree(head, given, own):
        if not fresh_head:
            _check_classes(network, file, head, given)
        else:
            given, wanted = {n: t for n, t in given.items() if n not in head}, wanted - head
    _check_fit(network, file, wanted, given, own)
    with torch.no_grad():
        for name, tensor in given.items():
            own[name].copy_(tensor)
        if file.mean is not None and file.std is not None:
            network.normalise.mean.copy_(torch.tensor(file.mean))
            network.normalise.std.copy_(torch.tensor(file.std))
    return head <= set(given) if network.heads else not is_backbone and "logits" in network.taps


def weights_digest(network: Network) -> str:
    """SHA-256 over the names (sorted), types, shapes and bytes of everything in the network's state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> WeightsFile:
    try:
        with safe_open(path, framework="pt") as opened:
            header = opened.metadata() or {}
            state = {name: opened.get_tensor(name) for name in opened.keys()}
        mean, std = (json.loads(header[name]) if name in header else None for name in METADATA)
    except (SafetensorError, ValueError) as damage:
        raise BadWeights(
            f"not a whole safetensors file: {damage}", where=str(path), fix="copy or download it again"
        ) from damage
    return WeightsFile(state=_peel(state, path), origin=str(path), mean=mean, std=std)


def _read_pickle(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as refusal:
        first = str(refusal).splitlines()[0]
        raise BadWeights(
            f"refused: the file is a pickle that holds more than tensors and could run code ({first})",
            where=str(path),
            fix="where it was made, save only the tensors: "
            "safetensors.torch.save_file(network.state_dict(), FILE)",
        ) from refusal
    except Exception as damage:  # bytes that are no pickle may look like any instruction of one
        first = (str(damage).splitlines() or [type(damage).__name__])[0]
        raise BadWeights(
            f"not a readable PyTorch weights file: {first}", where=str(path), fix="copy or download it again"
        ) from damage


def _peel(content: object, path: Path) -> dict[str, Tensor]:
    """The named tensors inside 'state_dict' and 'model' wrappers and 'module.' prefixes."""
    while isinstance(content, Mapping):
        inner = next((content[w] for w in WRAPPERS if isinstance(content.get(w), Mapping)), None)
        if inner is None:
            break
        content = inner
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(v, Tensor) for v in content.values())
    ):
        raise BadWeights(
            f"no named tensors inside (found {type(content).__name__})",
            where=str(path),
            fix=f"save a state_dict, bare or under one of: {', '.join(WRAPPERS)}",
        )
    state = {str(name): tensor for name, tensor in content.items()}
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _best_prefix(
    network: Network, state: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[str, bool]:
    """What to put in front of the file's names so that most of them are the network's, and: is it a
    backbone.
    """
    places = ["", "model."]
    if network.backbone_path:
        # Some of timm's feature extractors hold the network one level deeper.
        places += [f"model.{network.backbone_path}.", f"model.{network.backbone_path}.model."]
    scores = [sum(p + n in own or p + n.replace(".", "_", 1) in own for n in state) for p in places]
    best = scores.index(max(scores))
    return places[best], best >= 2


def _backbone_names(
    given: Mapping[str, Tensor], own: Mapping[str, Tensor], extras: set[str]
) -> dict[str, Tensor]:
    """Leaves out the classifier and follows timm's flattened children ('stages.0' is 'stages_0')."""
    renamed = {}
    for name, tensor in given.items():
        head, _, tail = name.rpartition("model.")
        flat = f"{head}model.{tail.replace('.', '_', 1)}"
        target = flat if name not in own and flat in own else name
        if target in own or name not in extras:
            renamed[target] = tensor
    return renamed


def _agree(names: set[str], given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    return all(name in given and given[name].shape == own[name].shape for name in names)


def _check_classes(network: Network, file: WeightsFile, head: set[str], given: Mapping[str, Tensor]) -> None:
    """Raises BadWeights when the file's classifier is for another number of classes."""
    per_class = network.grid.anchors_per_cell if network.grid is not None else 1  # rows of the last layer
    counts = {given[name].shape[0] // per_class for name in head if name in given}
    if len(counts) != 1 or counts == {network.num_classes}:
        return  # nothing that classes explain: the listing of names says it
    raise BadWeights(
        f"the weights tell {counts.pop()} classes apart, the data have {network.num_classes}",
        where=file.origin,
        fix=f"train them on the data first: kdtrain --loss none --student {network.name} --weights FILE "
        "--run RUN --data NAME:DIR, then --teacher RUN",
    )


def _check_fit(
    network: Network,
    file: WeightsFile,
    wanted: set[str],
    given: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
) -> None:
    # Absent statistics of pixels are the network's defaults, not a fault.
    missing = sorted(n for n in wanted - set(given) if not n.startswith("normalise."))
    unexpected = sorted(set(given) - set(own))
    misshapen = [n for n in sorted(given) if n in own and given[n].shape != own[n].shape]
    if not (missing or unexpected or misshapen):
        return
    hints = []
    for name in unexpected[:NUM_SHOWN]:
        close = nearest(name, missing or own)
        hints.append(f"{name} (nearest: {close})" if close else name)
    shapes = [
        f"{n} {tuple(given[n].shape)} in the file, {tuple(own[n].shape)} here" for n in misshapen[:NUM_SHOWN]
    ]
    texts = (
        _listed("missing", missing[:NUM_SHOWN], len(missing)),
        _listed("unexpected", hints, len(unexpected)),
        _listed("of another shape", shapes, len(misshapen)),
    )
    raise BadWeights(
        f"weights do not fit {network.name}: {'; '.join(t for t in texts if t)}",
        where=file.origin,
        fix="name the network these weights belong to, or give weights of this one "
        "(a whole network, or a backbone in timm's names)",
    )


def _listed(kind: str, shown: Sequence[str], total: int) -> str:
    if not total:
        return ""
    more = f" and {total - len(shown)} more" if total > len(shown) else ""
    return f"{total} {kind}: {', '.join(shown)}{more}"
