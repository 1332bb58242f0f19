"""The command that builds a cache like one that is there, for messages: typed as it stands it works."""

from collections.abc import Iterator, Mapping

from kdcache.cache.record.manifest import Manifest

EMPTY, KEPT = "empty", "kept"  # of an identity
LISTED = 5  # names that only one of two lists has
MAX_SAID = 80  # characters of one value


def keeps_empty(manifest: Manifest) -> bool:
    """Whether the cache was asked to hold samples from which nothing can be learnt."""
    return manifest.identity.get(EMPTY) == KEPT


def difference(name: str, then: object, now: object) -> str:
    """'crop 32x32, now it is 48x48': the parts of two values that differ, each as 'name.part', and how."""
    return "; ".join(
        f"{path} {_said(old)}, now it is {_said(new)}" for path, old, new in _parts(name, then, now)
    )


def _parts(path: str, then: object, now: object) -> Iterator[tuple[str, object, object]]:
    """Where two values differ, with what is there in each."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in sorted({*then, *now}):
            if then.get(key) != now.get(key):
                yield from _parts(f"{path}.{key}", then.get(key), now.get(key))
    elif _are_names(then) and _are_names(now) and set(then) != set(now):  # type: ignore[call-overload]
        one, other = list(then), list(now)  # type: ignore[call-overload]
        yield path, _but(one, other), _but(other, one)
    else:
        yield path, then, now


def _are_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


def _but(names: list[str], others: list[str]) -> str:
    """'4 with cat, dog': how many, and those that the others lack."""
    own = [name for name in names if name not in set(others)]
    more = f" and {len(own) - LISTED} more" if len(own) > LISTED else ""
    return f"{len(names)}" + (f" with {', '.join(own[:LISTED])}{more}" if own else "")


def _said(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= MAX_SAID else f"{text[:MAX_SAID]}..."


def build_words(manifest: Manifest) -> list[str]:
    """'kdcache build' with the teacher and the data of a cache; more options may follow."""
    words = ["kdcache", "build", "--teacher", manifest.teacher_origin, "--data", manifest.data_spec]
    if (split := str(manifest.data["split"])) != "train":
        words += ["--split", split]
    if manifest.teacher_weights:
        words += ["--weights", manifest.teacher_weights]
    if keeps_empty(manifest):
        words += ["--keep-empty"]
    if manifest.network.get("mean"):
        words += ["--mean"]
    return words
