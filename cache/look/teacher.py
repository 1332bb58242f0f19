"""The teacher behind a cache, rebuilt to check it; and any teacher, built to list its taps."""

from pathlib import Path

from kdcache.cache.build.plan import own_teacher
from kdcache.cache.errors import BadCache
from kdcache.cache.networks.build import build_network, check_stride
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.resolve import member_names, resolve_teacher, run_folder
from kdcache.cache.networks.run_card import read_run_card
from kdcache.cache.networks.weights import weights_digest
from kdcache.cache.record.manifest import read_manifest
from kdcache.cache.spec import CLASSIFICATION, SEGMENTATION, Task

LISTING_CROP = (512, 512)  # pixels; sizes in a listing need some input
CLASSIFIER_CROP = (224, 224)  # of a classifier that does not say


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
    found = weights_digest(network)
    if found != manifest.identity["weights"]:
        raise BadCache(
            f"the cache was made by teacher "
            f"{manifest.teacher_origin}@{str(manifest.identity['weights'])[:11]}, "
            f"the one found now is @{found[:11]}: same name, other weights",
            where=str(root),
            fix="name the weights that made it with --weights, or build a new cache",
        )
    return network


def network_for_listing(
    name: str,
    runs_dir: Path,
    num_classes: int,
    output_stride: int | None,
    task: Task | None = None,
) -> tuple[Network, tuple[int, int]]:
    """A teacher to list the taps of (its head may be untrained), and the input size to list for.

    `task` None is a run's own; for a plain name segmentation, or classification where only that knows it.
    """
    names = member_names(name, runs_dir)
    if len(names) > 1:
        from kdcache.cache.networks.ensemble import Ensemble, member_labels

        listed = [network_for_listing(n, runs_dir, num_classes, output_stride, task) for n in names]
        folders = [run_folder(member, runs_dir) for member in names]
        labels = member_labels([f.name if f else n for f, n in zip(folders, names, strict=True)])
        networks = [network for network, _ in listed]
        return Ensemble(",".join(labels), dict(zip(labels, networks, strict=True))), listed[0][1]
    folder = run_folder(name, runs_dir)
    if folder is not None and (folder / "network.json").is_file():
        card = read_run_card(folder)
        check_stride(output_stride, card.task)
        network, _, _ = resolve_teacher(
            name, runs_dir, task=task, num_classes=None, output_stride=output_stride
        )
        return network, card.crop
    from kdcache.cache.networks.names import CIFAR_RESNETS, wide_size

    if task is None:
        cifar = name in CIFAR_RESNETS or wide_size(name) is not None
        task = CLASSIFICATION if cifar else SEGMENTATION
    check_stride(output_stride, task)
    stride = output_stride or (8 if task == SEGMENTATION else None)
    network = build_network(name, task=task, num_classes=num_classes, output_stride=stride, weights=None)
    usual = CLASSIFIER_CROP if task == CLASSIFICATION else LISTING_CROP
    return network, network.input_px or usual


def module_paths(network: Network) -> list[str]:
    """Every module path of the teacher, as `--tap NAME@PATH` takes it."""
    return [path for path, _ in network.model.named_modules() if path]
