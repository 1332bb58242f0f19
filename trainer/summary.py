"""What a run says about itself: the lines printed before step 0, the resolved options, the exported student's
card.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run_folder import RunCard, load_run_network, read_run_card, save_run_network
from kdcache.losses.plan import LossPlan
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.origin import Origin
from kdcache.trainer.place import Place


def summary(
    config: TrainConfig, origin: Origin, student: Network, plan: LossPlan, place: Place
) -> dict[str, str]:
    """Title -> value, in printing order."""
    c = config
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
    return {
        "student": f"{student.name}, {num_weights / 1e6:.1f} million weights, stride {student.output_stride}",
        "views": f"{pixels}, {origin.num_samples} samples, crop {height}x{width}",
        "targets": targets,
        "steps": f"{c.steps} ({epochs:.1f} epochs), batch {c.batch_size}{split}",
        "optimizer": f"{c.optimizer}, lr {c.base_lr:g}, weight decay {c.decay:g}, amp {c.amp}",
        "device": str(place.device),
    }


def resolved(origin: Origin, student: Network, plan: LossPlan, taps: Sequence[str]) -> dict[str, Any]:
    """What the options came to; the table `resolved` of config.toml."""
    return {
        "student": student.name,
        "dataset": origin.dataset,
        "class_names": list(origin.class_names),
        "crop": list(origin.crop),
        "output_stride": student.output_stride,
        "student_taps": list(taps),
        "loss": plan.to_dict(),
        "cache": origin.cache.manifest.name if origin.cache is not None else None,
    }


def exporter(origin: Origin) -> Callable[[Path, nn.Module | None, Mapping[str, float]], None]:
    """Writes `student.safetensors` and `network.json`; without a network only the card's metrics change."""

    def export(run_dir: Path, network: nn.Module | None, metrics: Mapping[str, float]) -> None:
        student = load_run_network(run_dir) if network is None else network
        assert isinstance(student, Network)
        old = read_run_card(run_dir) if network is None else None
        card = RunCard(
            network=student.config.to_dict(),
            data=origin.spec,
            class_names=origin.class_names,
            crop=origin.crop,
            output_stride=student.output_stride,
            weights_digest=old.weights_digest if old else "",
            metrics=dict(metrics),
        )
        save_run_network(run_dir, student, card)

    return export
