"""The command that builds a cache like one that is there, for messages: typed as it stands it works."""

from collections.abc import Iterator, Mapping, Sequence

from kdcache.cache.record.manifest import FULL, Manifest, TapEntry
from kdcache.cache.tasks.table import task_of
from kdcache.cache.views.draw import QUARTERS
from kdcache.cache.views.sets import MIRROR_OF, ViewSet

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
    words += _split_words(manifest)
    if manifest.teacher_weights:
        words += ["--weights", manifest.teacher_weights]
    if keeps_empty(manifest):
        words += ["--keep-empty"]
    if manifest.network.get("mean"):
        words += ["--mean"]
    return words


def _split_words(manifest: Manifest) -> list[str]:
    split = str(manifest.data["split"])
    return [] if split == "train" else ["--split", split]


def repeat_words(manifest: Manifest, losses: Sequence[str] = ()) -> list[list[str]]:
    """The commands that make this cache again, elsewhere: of equal identity, views and targets.

    More than one where the cache grew by views, because their numbers follow the order in which they came.
    `losses` are named where a target is reduced, which losses ask for and no `--tap` can.
    """
    first, *later = _steps(manifest.views)
    words = [*build_words(manifest), "--crop", ",".join(map(str, manifest.crop)), *_views_words(first)]
    words += ["--augment", str(manifest.identity["recipe"])]
    if manifest.precision != FULL:
        words += ["--amp", manifest.precision]
    alone = "," not in manifest.teacher_origin  # members of an ensemble have strides of their own
    if alone and manifest.output_stride and task_of(manifest.task).networks.default_stride is not None:
        words += ["--output-stride", str(manifest.output_stride)]
    if manifest.batch_size is not None:  # it decides last bits
        words += ["--batch-size", str(manifest.batch_size)]
    words += ["--format", manifest.target_format, *(["--zstd"] if manifest.zstd else [])]
    words += [
        word for tap in manifest.taps if not tap.reduction for word in ("--tap", _tap_word(tap, manifest))
    ]
    words += ["--keep", "pixels"] if manifest.kept else []
    if losses and any(tap.reduction for tap in manifest.taps):
        words += ["--for", ",".join(losses)]
    grow = ["kdcache", "build", "--cache", manifest.name, *_split_words(manifest)]
    return [words, *([*grow, *_views_words(step)] for step in later)]


def _tap_word(tap: TapEntry, manifest: Manifest) -> str:
    """'stage4=int8'; with its place where somebody named it: 'stage4@layer4=int8'."""
    named = manifest.network.get("taps") or {}
    return f"{tap.tap}{f'@{tap.module}' if tap.tap in named else ''}={tap.codec}"


def view_word(views: ViewSet) -> str:
    """As it is written after --views; of a set that goes on drawing where another ended, all of both."""
    if not views.draws:
        return views.kind
    count = views.draw_first + views.count
    return f"{views.kind}:{count // (QUARTERS if views.kind == 'turns' else 1)}"


def _steps(views: Sequence[ViewSet]) -> list[list[ViewSet]]:
    """Sets that one command can have made, in order: a kind once, of one seed."""
    steps: list[list[ViewSet]] = [[]]
    for one in sorted(views, key=lambda one: one.first):
        step = steps[-1]
        alone = one.kind in MIRROR_OF.values() and MIRROR_OF.get(step[-1].kind if step else "") != one.kind
        again = any(one.kind == other.kind for other in step)
        reseeded = one.draws and any(other.draws and other.seed != one.seed for other in step)
        if step and (alone or again or reseeded):
            steps.append([])
        steps[-1].append(one)
    return steps


def _views_words(step: Sequence[ViewSet]) -> list[str]:
    mirrors = [one.kind for one in step if one.kind in MIRROR_OF.values()]
    whole = [kind for kind, mirror in MIRROR_OF.items() if mirror in mirrors]
    named = list(dict.fromkeys([*(view_word(one) for one in step if one.kind not in mirrors), *whole]))
    seed = next((one.seed for one in step if one.draws), 0)
    words = ["--views", "+".join(named), *(["--mirror"] if mirrors else [])]
    return [*words, *(["--seed", str(seed)] if seed else [])]
