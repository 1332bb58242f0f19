"""Weights in a network: fitting those of a file, and telling them apart.

A file may hold a whole network (this project's names, with or without the leading 'model.') or a backbone
alone in timm's (or torchvision's) names. Which of them it is shows in how many names agree.
"""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdcache.cache.errors import BadWeights, nearest
from kdcache.cache.networks.files.unwrapping import choose_names
from kdcache.cache.networks.files.weights_file import WeightsFile
from kdcache.cache.networks.network import Network

SIDE_HEADS = ("aux_head.", "aux_classifier.")  # may be in a file although the network was built without
NUM_SHOWN = 3


class WeightsOfOtherClasses(BadWeights):
    """A file whose last layer is for `count` classes, and not for those that were asked for."""

    count = 0


def fit_weights(network: Network, file: WeightsFile, *, fresh_head: bool = False) -> bool:
    """Copies the tensors into the network, cast to its precision; True when the classifier was among them.

    `fresh_head`: a classifier of other classes stays in the file, and the network's own is left as it is.
    Raises BadWeights listing missing, unexpected (with the nearest own name) and misshapen tensors; the
    network is then as it was.
    """
    own = network.state_dict()
    written, peeled = _named_alike(network, file, own)
    state = _adapted(network, written)
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
            if head & set(given):
                network.notes = (
                    f"the student begins with {file.origin}; its last layer is new: the file tells other "
                    f"classes apart than these {network.num_classes}",
                )
            given, wanted = {n: t for n, t in given.items() if n not in head}, wanted - head
    _check_fit(network, file, wanted, given, own)
    with torch.no_grad():
        for name, tensor in given.items():
            own[name].copy_(tensor)
        if file.mean is not None and file.std is not None:
            network.normalise.mean.copy_(torch.tensor(file.mean))
            network.normalise.std.copy_(torch.tensor(file.std))
    network.weights_peeled = (*peeled, *(network.left_out(written) if network.left_out else ()))
    if network.names_in is not None:
        network.class_names = network.names_in(written)
    return head <= set(given) if network.heads else not is_backbone and "logits" in network.taps


def weights_digest(network: Network) -> str:
    """SHA-256 over the names (sorted), types, shapes and bytes of everything in the network's state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _named_alike(
    network: Network, file: WeightsFile, own: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """The file's tensors under the names of the network's library, and all that was taken off for it."""

    def score(state: Mapping[str, Tensor]) -> int:
        return max(_scores(network, _adapted(network, state), own))

    state, peeled = choose_names(dict(file.state), score, file.origin)
    return state, (*file.peeled, *peeled)


def _adapted(network: Network, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return state if network.adapt is None else network.adapt(state)


def _best_prefix(
    network: Network, state: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[str, bool]:
    """What to put in front of the file's names so that most of them are the network's, and: is it a
    backbone.
    """
    scores = _scores(network, state, own)
    best = scores.index(max(scores))
    return _places(network)[best], best >= 2


def _scores(network: Network, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[int]:
    """How many of the names are the network's, for each place that they may be of."""
    return [
        sum(place + name in own or place + name.replace(".", "_", 1) in own for name in state)
        for place in _places(network)
    ]


def _places(network: Network) -> list[str]:
    places = ["", "model."]
    if network.backbone_path:
        # Some of timm's feature extractors hold the network one level deeper.
        places += [f"model.{network.backbone_path}.", f"model.{network.backbone_path}.model."]
    return places


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
    (count,) = counts
    raise _other_classes(network, file, count)


def _other_classes(network: Network, file: WeightsFile, count: int) -> WeightsOfOtherClasses:
    error = WeightsOfOtherClasses(
        f"the weights tell {count} classes apart, the data have {network.num_classes}",
        where=file.origin,
        fix=f"train them on the data first: kdtrain --loss none --student {network.name} --weights FILE "
        "--run RUN --data NAME:DIR, then --teacher RUN",
    )
    error.count = count
    return error


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
    if not (missing or unexpected) and (
        count := _count_alone(network, [(given[n], own[n]) for n in misshapen])
    ):
        raise _other_classes(network, file, count)
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


def _count_alone(network: Network, pairs: Sequence[tuple[Tensor, Tensor]]) -> int:
    """How many classes the tensors of another shape are for, the file's before the network's; 0 where
    something else than the number of classes differs."""
    alike = all(len(b) == network.num_classes and a.shape[1:] == b.shape[1:] for a, b in pairs if b.dim())
    counts = {len(a) if a.dim() and b.dim() else 0 for a, b in pairs}
    return counts.pop() if alike and len(counts) == 1 else 0


def _listed(kind: str, shown: Sequence[str], total: int) -> str:
    if not total:
        return ""
    more = f" and {total - len(shown)} more" if total > len(shown) else ""
    return f"{total} {kind}: {', '.join(shown)}{more}"
