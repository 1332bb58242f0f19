"""--teacher X: a run named X first, then a network named X; the choice is a sentence to print."""

import os
from collections.abc import Mapping
from pathlib import Path

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.names import NetworkName, parse_name
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run_folder import RunCard, load_run_network, read_run_card
from kdcache.cache.networks.weights import SUFFIXES

PRETRAINED_TORCHVISION = (
    "COCO_WITH_VOC_LABELS_V1"  # what makes a torchvision network a teacher without training
)


def resolve_teacher(
    name: str,
    runs_dir: Path,
    *,
    num_classes: int | None,
    output_stride: int | None = None,
    weights: str | None = None,
    taps: Mapping[str, str] | None = None,
) -> tuple[Network, RunCard | None, str]:
    """The teacher, the card of its run (None for a plain network), and the sentence that says which was
    taken.

    `name` may also be the path of a run folder. Raises BadOption for an unknown name and for a segmentation
    network whose head nobody trained: its logits would be noise.
    """
    run_dir = _run_dir(name, runs_dir)
    if run_dir is not None:
        return _from_run(run_dir, num_classes, output_stride, weights, taps)
    parsed = parse_name(name, where="--teacher (no run has this name)")
    # Said before building: a ResNet-101 costs seconds.
    if parsed.segments and not _may_hold_head(weights):
        raise _untrained(name, parsed)
    if parsed.family == "timm" and weights in (None, "none"):
        raise BadOption(
            f"teacher '{name}' would have random weights",
            where="--teacher",
            fix="pass --weights imagenet or --weights FILE.safetensors",
        )
    if parsed.family == "tv" and weights is None:
        weights = PRETRAINED_TORCHVISION
    network = build_network(
        name, num_classes=num_classes, output_stride=output_stride, weights=weights, taps=taps, role="teacher"
    )
    if "logits" in network.taps and not network.trained_head:
        raise _untrained(name, parsed)
    origin = f" with weights {weights}" if weights else ""
    return network, None, f"teacher '{name}' is the network {network.name}{origin} (no run has this name)"


def _run_dir(name: str, runs_dir: Path) -> Path | None:
    named = runs_dir / name
    if ":" not in name and named.is_dir():
        return named
    path = Path(name)
    return path if os.sep in name and path.is_dir() else None


def _from_run(
    run_dir: Path,
    num_classes: int | None,
    output_stride: int | None,
    weights: str | None,
    taps: Mapping[str, str] | None,
) -> tuple[Network, RunCard, str]:
    if weights is not None:
        raise BadOption(
            f"run '{run_dir.name}' has its own weights, and --weights {weights} was given too",
            where="--teacher and --weights",
            fix="leave --weights out, or name the network instead of the run (deeplabv3:ENCODER)",
        )
    card = read_run_card(run_dir)
    if num_classes not in (None, card.config.num_classes):
        raise BadOption(
            f"run '{run_dir.name}' tells {card.config.num_classes} classes apart, the data has {num_classes}",
            where="--teacher and --data",
            fix=f"use the data of the run: --data {card.data}",
        )
    network = load_run_network(run_dir, output_stride=output_stride, taps=taps)
    choice = f"teacher '{run_dir.name}' is the run {run_dir} ({network.name}, trained on {card.data})"
    if network.output_stride != card.output_stride:
        choice += f", at output stride {network.output_stride} instead of {card.output_stride}"
    return network, card, choice


def _may_hold_head(weights: str | None) -> bool:
    """False for no weights and for pretrained tags, which are of the encoder alone."""
    if weights is None:
        return False
    path = Path(weights).expanduser()
    return path.suffix in SUFFIXES or os.sep in weights or path.exists()


def _untrained(name: str, parsed: NetworkName) -> BadOption:
    run = name.replace(":", "-")
    return BadOption(
        f"teacher '{name}' is the network {parsed}, and nobody has trained its segmentation head",
        where="--teacher (no run has this name)",
        fix=f"kdtrain --loss none --student {name} --run {run} --data camvid:DIR",
    )
