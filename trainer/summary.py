"""What a run says about itself: the lines printed before step 0, the resolved options, the exported student's
card.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run_folder import RunCard, load_run_network, read_run_card, save_run_network
from kdcache.cache.spec import SEGMENTATION
from kdcache.losses.plan import LossPlan
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.origin import Origin
from kdcache.trainer.place import Place
from kdcache.trainer.students.contract import deployed_of


def summary(
    config: TrainConfig, origin: Origin, student: nn.Module, plan: LossPlan, place: Place
) -> dict[str, str]:
    """Title -> value, in printing order."""
    c, deployed = config, network_of(student)
    height, width = origin.crop
    epochs = c.steps * c.batch_size / max(1, origin.num_samples)
    pixels = f"fresh, {origin.spec}"
    if origin.cache is not None:
        pixels = f"stored, cache {origin.cache.manifest.name}"
    needs = ", ".join(need.name for need in plan.needs)
    targets = f"{needs} from {f'live teacher {c.teacher}' if c.online else 'the cache'}" if needs else "none"
    num_weights = sum(parameter.numel() for parameter in student.parameters())
    parts = place.world * c.accumulate
    split = f" = {place.world} ranks x {c.accumulate} x {c.batch_size // parts}" if parts > 1 else ""
    recipe = f", {origin.augment}" if origin.augment else ""
    stride = f", stride {deployed.output_stride}" if origin.task == SEGMENTATION else ""
    return {
        "task": f"{origin.task}, {len(origin.class_names)} classes",
        "student": f"{deployed.name}, {num_weights / 1e6:.1f} million weights{stride}",
        "views": f"{pixels}, {origin.num_samples} samples, crop {height}x{width}{recipe}",
        "targets": targets,
        "steps": f"{c.steps} ({epochs:.1f} epochs), batch {c.batch_size}{split}",
        "optimizer": f"{c.optimizer}, lr {c.base_lr:g} {rate_text(c)}, weight decay {c.decay:g}, amp {c.amp}",
        "device": str(place.device),
    }


def rate_text(config: TrainConfig) -> str:
    """What happens to the rate: 'poly 0.9', 'x 0.1 at 0.625, 0.75, 0.875 of the run', 'cosine'."""
    if config.lr_schedule == "multistep":
        marks = ", ".join(f"{mark:g}" for mark in config.milestones)
        return f"x {config.lr_drop:g} at {marks} of the run"
    return f"poly {config.poly_power:g}" if config.lr_schedule == "poly" else config.lr_schedule


def network_of(student: nn.Module) -> Network:
    """The network to judge and to export: of several students the deployed one."""
    network = deployed_of(student)
    assert isinstance(network, Network)
    return network


def resolved(origin: Origin, student: nn.Module, plan: LossPlan, taps: Sequence[str]) -> dict[str, Any]:
    """What the options came to; the table `resolved` of config.toml."""
    network = network_of(student)
    return {
        "student": network.name,
        "task": origin.task,
        "dataset": origin.dataset,
        "class_names": list(origin.class_names),
        "crop": list(origin.crop),
        "augment": origin.augment or None,
        "output_stride": network.output_stride,
        "student_taps": list(taps),
        "loss": plan.to_dict(),
        "cache": origin.cache.manifest.name if origin.cache is not None else None,
    }


def exporter(origin: Origin) -> Callable[[Path, nn.Module | None, Mapping[str, float]], None]:
    """Writes `student.safetensors` and `network.json`; without a network only the card's metrics change."""

    def export(run_dir: Path, network: nn.Module | None, metrics: Mapping[str, float]) -> None:
        student = load_run_network(run_dir) if network is None else network_of(network)
        old = read_run_card(run_dir) if network is None else None
        card = RunCard(
            network=student.config.to_dict(),
            task=origin.task,
            data=origin.spec,
            class_names=origin.class_names,
            crop=origin.crop,
            output_stride=student.output_stride,
            weights_digest=old.weights_digest if old else "",
            metrics=dict(metrics),
        )
        save_run_network(run_dir, student, card)

    return export
