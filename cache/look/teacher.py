"""The teacher behind a cache, rebuilt to check it; and any teacher, built to list its taps."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.networks.build import build_network, refuse_stride
from kdcache.cache.networks.ensemble import Ensemble, member_labels
from kdcache.cache.networks.names import first_task_with, is_library, split_names
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.resolve import member_names, resolve_teacher, run_folder, weights_of_each
from kdcache.cache.networks.run_card import CARD, read_run_card
from kdcache.cache.networks.weights import WeightsOfOtherClasses, weights_digest
from kdcache.cache.record.manifest import Manifest, read_manifest
from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import task_of
from kdcache.cache.trust import command_with, is_trusted, require_trust, typed_option
from kdcache.cache.visible import shell_line

CLASSES = 19  # that a network is listed with where nothing says how many: those of Cityscapes


def own_teacher(manifest: Manifest | None, cache: str = "") -> str:
    """The teacher a manifest names: a run by its plain name, a library's network, or a factory of a module
    that is trusted; '' without a manifest. `cache` is the cache for --cache, where a line that names the
    teacher has to name it too.

    Anything else is a hint: raises BadOption with the line to type. A path has to be typed whatever is
    trusted: it could lead into the cache itself, to a run that a stranger put there.
    """
    if manifest is None:
        return ""
    name, where = manifest.teacher_origin, f"teacher of cache {manifest.name}"
    members = split_names(name)  # of an ensemble; one teacher is its only member
    if any("/" in m or "\\" in m for m in members):
        words = [] if not cache or typed_option("--cache") else ["--cache", cache]
        words += ["--teacher", name]
        raise BadOption(
            f"the cache names its teacher by a path, which is not followed: '{name}'",
            where=where,
            fix=f"if you trust it: {command_with(*words) or shell_line(words)}",
        )
    factories = [m for m in members if ":" in m and not is_library(m)]
    if not all(is_trusted(factory) for factory in factories):
        require_trust([*factories, *manifest.foreign_names], where=where)  # one line for all of them
    return name


def manifest_teacher(root: Path, runs_dir: Path, weights: str | None, name: str | None = None) -> Network:
    """The teacher that made the cache. Raises BadCache when the weights found now are not those."""
    manifest = read_manifest(root)
    network, _, _ = resolve_teacher(
        name or own_teacher(manifest),
        runs_dir,
        task=manifest.task,
        num_classes=len(manifest.class_names),
        output_stride=manifest.output_stride,
        weights=weights or manifest.teacher_weights or None,
        taps={t.tap: t.module for t in manifest.taps},
        mean=bool(manifest.network.get("mean")),
    )
    digest = weights_digest(network)
    if digest != manifest.identity["weights"]:
        raise BadCache(
            f"the cache was made by teacher "
            f"{manifest.teacher_origin}@{str(manifest.identity['weights'])[:11]}, "
            f"the one found now is @{digest[:11]}: same name, other weights",
            where=str(root),
            fix="name the weights that made it with --weights, or build a new cache",
        )
    return network


def network_for_listing(
    name: str,
    runs_dir: Path,
    num_classes: int | None,
    output_stride: int | None,
    task: Task | None = None,
    weights: str | None = None,
) -> tuple[Network, tuple[int, int]]:
    """A teacher to list the taps of (its head may be untrained), and the input size to list for.

    `task` None is a run's own; for a plain name the first one whose networks have it. `weights` are checked
    against the network, of an ensemble one entry per member. `num_classes` None is as many as they tell
    apart, `CLASSES` without any. Raises BadOption for weights of another number than was asked for.
    """
    names = member_names(name, runs_dir)
    if len(names) > 1:
        files = weights_of_each(name, len(names), weights)
        each = zip(names, files, strict=True)
        listed = [network_for_listing(n, runs_dir, num_classes, output_stride, task, f) for n, f in each]
        return _together(names, [network for network, _ in listed], runs_dir), listed[0][1]
    folder = run_folder(name, runs_dir)
    if folder is not None and (folder / CARD).is_file():
        card = read_run_card(folder)
        refuse_stride(output_stride, card.task)
        network, _, _ = resolve_teacher(
            name, runs_dir, task=task, num_classes=None, output_stride=output_stride, weights=weights
        )
        return network, card.crop
    task = task or first_task_with(name)
    refuse_stride(output_stride, task)
    rules = task_of(task).networks
    stride = output_stride or rules.default_stride
    build = partial(build_network, name, task=task, output_stride=stride, weights=weights)
    network = _of_as_many_classes(build, num_classes, weights)
    return network, network.input_px or rules.listing_px


def _of_as_many_classes(
    build: Callable[..., Network], num_classes: int | None, weights: str | None
) -> Network:
    """As was asked for, else as the weights say."""
    try:
        return build(num_classes=num_classes or CLASSES)
    except WeightsOfOtherClasses as error:
        if num_classes is not None:
            raise BadOption(
                f"the weights tell {error.count} classes apart, --classes says {num_classes}",
                where=f"--weights {weights} --classes {num_classes}",
                fix=f"leave --classes out, or give --classes {error.count}",
            ) from error
        return build(num_classes=error.count)


def _together(names: Sequence[str], networks: Sequence[Network], runs_dir: Path) -> Ensemble:
    folders = [run_folder(member, runs_dir) for member in names]
    labels = member_labels([f.name if f else n for f, n in zip(folders, names, strict=True)])
    return Ensemble(",".join(labels), dict(zip(labels, networks, strict=True)))


def module_paths(network: Network) -> list[str]:
    """Every module path of the teacher, as `--tap NAME@PATH` takes it."""
    return [path for path, _ in network.model.named_modules() if path]
