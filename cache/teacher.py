"""The teacher behind a cache, rebuilt to check it; and any teacher, built to list its taps."""

from pathlib import Path

from kdcache.cache.build_plan import own_teacher
from kdcache.cache.errors import BadCache
from kdcache.cache.manifest import read_manifest
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.networks.run_folder import read_run_card, weights_digest

LISTING_CROP = (512, 512)  # pixels; sizes in a listing need some input


def manifest_teacher(root: Path, runs_dir: Path, weights: str | None, name: str | None = None) -> Network:
    """The teacher that made the cache. Raises BadCache when the weights found now are not those."""
    manifest = read_manifest(root)
    network, _, _ = resolve_teacher(
        name or own_teacher(manifest),
        runs_dir,
        num_classes=len(manifest.class_names),
        output_stride=manifest.output_stride,
        weights=weights or manifest.teacher_weights or None,
        taps={t.tap: t.module for t in manifest.taps},
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
    name: str, runs_dir: Path, num_classes: int, output_stride: int | None
) -> tuple[Network, tuple[int, int]]:
    """A teacher to list the taps of (its head may be untrained), and the input size to list for."""
    if (runs_dir / name / "network.json").is_file():
        card = read_run_card(runs_dir / name)
        network, _, _ = resolve_teacher(
            name, runs_dir, num_classes=None, output_stride=None, weights=None, taps=None
        )
        return network, card.crop
    from kdcache.cache.networks.build import build_network

    stride = output_stride or 8
    return build_network(name, num_classes=num_classes, output_stride=stride, weights=None), LISTING_CROP


def module_paths(network: Network) -> list[str]:
    """Every module path of the teacher, as `--tap NAME@PATH` takes it."""
    return [path for path, _ in network.model.named_modules() if path]
