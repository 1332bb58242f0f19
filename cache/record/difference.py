"""In what two caches differ: first what they are, field by field, then what is kept in them."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from kdcache.cache.record.command import EMPTY
from kdcache.cache.record.manifest import Manifest

# As a build decides them; what is not named here comes after them.
_ORDER = (
    "source", "label", "network", "weights", "precision", "pixels", "views", "crop", "recipe", EMPTY,
)  # fmt: skip


class Difference(NamedTuple):
    """One field, such as 'crop' or 'network.name', and its value on either side; None: not there."""

    field: str
    first: Any
    second: Any


def identity_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Difference, ...]:
    """What makes two caches two: values of their names' digest, the most telling first."""
    names = [*(n for n in _ORDER if n in first or n in second)]
    names += sorted({*first, *second} - set(names))
    return tuple(one for name in names for one in _differences(name, first.get(name), second.get(name)))


def kept_differences(first: Manifest, second: Manifest) -> tuple[Difference, ...]:
    """What two caches of one identity keep: views, taps with their codecs, how they are stored."""
    pairs: list[tuple[str, Any, Any]] = [
        ("views", _views(first), _views(second)),
        ("taps", _taps(first), _taps(second)),
        ("format", first.target_format, second.target_format),
        ("zstd", first.zstd, second.zstd),
        ("shard_samples", first.shard_samples, second.shard_samples),
        ("pipeline", dict(first.pipeline), dict(second.pipeline)),
        ("data folder", first.data_spec, second.data_spec),
    ]
    return tuple(one for name, a, b in pairs for one in _differences(name, a, b))


def _views(manifest: Manifest) -> dict[str, str]:
    return {f"{views.first}": f"{views.kind}:{views.count} {views.digest()}" for views in manifest.views}


def _taps(manifest: Manifest) -> dict[str, str]:
    return {tap.name: f"{tap.codec} of {tap.module}" for tap in manifest.stored}


def _differences(name: str, first: Any, second: Any) -> Iterator[Difference]:
    """Of nested values the innermost fields that differ; of lists the first place."""
    first, second = _plain(first), _plain(second)
    if first == second:
        return
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted({*first, *second}):
            yield from _differences(f"{name}.{key}", first.get(key), second.get(key))
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        place = next(i for i, pair in enumerate(zip(first, second, strict=True)) if pair[0] != pair[1])
        whole = all(isinstance(one, int) for one in (*first, *second))  # a size is read as one
        if whole:
            yield Difference(name, first, second)
        else:
            yield from _differences(f"{name}.{place}", first[place], second[place])
    else:
        yield Difference(name, first, second)


def _plain(value: Any) -> Any:
    """Tuples as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
