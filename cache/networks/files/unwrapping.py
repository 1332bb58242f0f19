"""The network inside a checkpoint: out of its wrappers, and out of the prefixes that training left on names.

Every step is kept as a phrase, because what was left out is for a person to judge. The weights that come out
are the same whatever they came in: bare, averaged, compiled, in a distributed or a Lightning module.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor

from kdcache.cache.errors import BadWeights

State = dict[str, Tensor]
# Averaged weights first: they are what was published and judged, and timm takes them first too.
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema_model", "ema",
            "params_ema")  # fmt: skip
PLAIN = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params")
WRAPPERS = (*AVERAGED, *PLAIN)
PREFIXES = ("module.",)  # left by DataParallel, DistributedDataParallel, AveragedModel, ModelEma
INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # anywhere in a name
COUNTER = "n_averaged"  # AveragedModel's, beside its 'module.'
MAX_WRAPPED = 8  # parts of a file, one in the other: a file may hold itself
DEEPEST = 4  # parts of a name that may be a prefix
# Parts of a checkpoint and of names that are never the network.
_TRAINING = re.compile(r"optim|sched|scaler|rng|callback|loop|hyper|config|args", re.IGNORECASE)
_JUDGES = re.compile(r"(.*_)?(criterion|criteria|loss|losses|loss_fn|metric|metrics)(_.*)?", re.IGNORECASE)
_SHOWN = 4


def unwrap(content: object, path: Path, key: str = "") -> tuple[State, tuple[str, ...]]:
    """The named tensors of a file, and what was taken off. `key` names the part or the prefix to take.

    Of several parts averaged weights come first, then the order of WRAPPERS. Raises BadWeights where there
    are no named tensors, where nothing says which of several parts is meant, and for a key that is not there.
    """
    said: list[str] = []
    level = content
    for _ in range(MAX_WRAPPED):
        if not isinstance(level, Mapping):
            break
        parts = {name: part for name, part in level.items() if _is_part(name, part)}
        chosen = _choose(level, parts, path, key)
        if chosen is None:
            break
        others = [f"'{name}'" for name in parts if name != chosen]
        beside = f", not {' or '.join(others[:_SHOWN])}: FILE#KEY takes another" if others and not key else ""
        said.append(f"'{chosen}' of it{beside}")
        level, key = parts[chosen], "" if key == chosen else key
    state = _tensors(level) if isinstance(level, Mapping) else {}
    if not state:
        raise BadWeights(
            f"no named tensors inside (found {_kinds(level)})",
            where=str(path),
            fix=f"save a state_dict, bare or under one of: {', '.join(WRAPPERS)}",
        )
    assert isinstance(level, Mapping)
    said += _left_out([str(name) for name in level if str(name) not in state])
    if key:
        state, phrase = _under(state, key, path), f"names under '{key}.'"
        said.append(phrase)
    state, phrases = _bare_names(state)
    return state, (*said, *phrases)


def choose_names(
    state: State, score: Callable[[Mapping[str, Tensor]], int], origin: str
) -> tuple[State, tuple[str, ...]]:
    """The names that a network knows, without a prefix that they share with nothing foreign, and what was
    left out. `score` counts how many of some named tensors have a place in the network.

    A prefix must bring more names home than none, and most of those below it. Raises BadWeights where two
    different networks fit equally well.
    """
    whole = score(state)
    if whole == len(state):
        return state, ()
    below = {prefix: _stripped(state, prefix) for prefix in _prefixes(state)}
    scores = {prefix: score(inner) for prefix, inner in below.items()}
    good = [p for p in below if scores[p] > whole and 2 * scores[p] >= len(below[p])]
    said: tuple[str, ...] = ()
    if good:
        most = max(scores[prefix] for prefix in good)
        first, *others = sorted((p for p in good if scores[p] == most), key=len)
        rivals = [p for p in others if not p.startswith(first) and not _equal(below[p], below[first])]
        if rivals:
            raise _ambiguous(first, rivals, origin)
        outside = [name for name in state if not name.startswith(first)]
        state, said = below[first], (f"names under '{first}'", *_left_out(outside))
    foreign = [n for n in state if _JUDGES.fullmatch(n.partition(".")[0]) and not score({n: state[n]})]
    kept = {name: tensor for name, tensor in state.items() if name not in set(foreign)}
    return kept, (*said, *_left_out(foreign))


def _is_part(name: object, part: object, depth: int = 0) -> bool:
    """Whether an entry of a checkpoint may be a network: tensors by name, perhaps some levels deeper."""
    if not isinstance(name, str) or _TRAINING.search(name) or not isinstance(part, Mapping):
        return False
    if _tensors(part) or depth == MAX_WRAPPED:
        return bool(_tensors(part))
    return any(_is_part(inner, value, depth + 1) for inner, value in part.items())


def _choose(level: Mapping[object, object], parts: Mapping[str, object], path: Path, key: str) -> str | None:
    """The part to go into; None where the tensors lie here."""
    chosen = key if key in parts else next((name for name in WRAPPERS if name in parts), None)
    if chosen is not None or not parts or _tensors(level):
        return chosen
    if len(parts) == 1:
        return next(iter(parts))
    listed = ", ".join(parts)
    raise BadWeights(
        f"{f'no part {key!r}' if key else 'several networks'} inside: {listed}",
        where=str(path),
        fix=f"name the one that is meant: --weights '{path}#{next(iter(parts))}'",
    )


def _kinds(level: object) -> str:
    """What lies where named tensors should."""
    strange = level.values() if isinstance(level, Mapping) else [level]
    kinds = sorted({type(one).__name__ for one in strange if not is_plain(one)})
    return ", ".join(kinds[:_SHOWN]) or "nothing"


def is_plain(value: object) -> TypeGuard[Tensor]:
    """A tensor whose every number is there: no sparse or quantised one, and none that is a shape alone."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        return False
    return (
        value.device.type == "cpu"
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _tensors(level: Mapping[object, object]) -> State:
    return {name: t for name, t in level.items() if isinstance(name, str) and is_plain(t)}


def _under(state: State, key: str, path: Path) -> State:
    inner = _stripped(state, f"{key}.")
    if not inner:
        heads = list(dict.fromkeys(name.partition(".")[0] for name in state))
        raise BadWeights(
            f"nothing in the file is called '{key}'",
            where=f"--weights '{path}#{key}'",
            fix=f"leave '#{key}' out, or name one of: {', '.join(heads[:8])}",
        )
    return inner


def _bare_names(state: State) -> tuple[State, tuple[str, ...]]:
    """Without what wrapping modules put before and into every name."""
    said = []
    for part in INSIDE:
        plain = {".".join(p for p in name.split(".") if p != part): t for name, t in state.items()}
        if list(plain) != list(state) and len(plain) == len(state):
            state = plain
            said.append(f"without '{part}.'")
    if COUNTER in state and len(state) > 1 and all(n.startswith(PREFIXES) for n in state if n != COUNTER):
        state = {name: tensor for name, tensor in state.items() if name != COUNTER}
        said.append(f"without '{COUNTER}'")
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = _stripped(state, prefix)
        said.append(f"without '{prefix}'")
    return state, tuple(dict.fromkeys(said))


def _prefixes(state: State) -> Iterator[str]:
    """Every beginning of a name, up to DEEPEST parts, with its dot; each once."""
    seen: dict[str, None] = {}
    for name in state:
        parts = name.split(".")
        for depth in range(1, min(DEEPEST, len(parts) - 1) + 1):
            seen[".".join(parts[:depth]) + "."] = None
    yield from seen


def _stripped(state: State, prefix: str) -> State:
    return {n.removeprefix(prefix): tensor for n, tensor in state.items() if n.startswith(prefix)}


def _equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _left_out(names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    heads = list(dict.fromkeys(name.partition(".")[0] for name in names))
    more = f" and {len(heads) - _SHOWN} more" if len(heads) > _SHOWN else ""
    return (f"left out {', '.join(heads[:_SHOWN])}{more}",)


def _ambiguous(first: str, rivals: list[str], origin: str) -> BadWeights:
    keys = [prefix.rstrip(".") for prefix in (first, *rivals)]
    return BadWeights(
        f"several networks that fit lie in the file, with different weights: {', '.join(keys)}",
        where=origin,
        fix=f"name the one that is meant: --weights '{origin}#{keys[0]}'",
    )
