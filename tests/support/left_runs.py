"""A run folder per task without training: random weights that say something, and data to be judged on.

Images of segmentation are no multiples of the stride, those of detection of several sizes and orientations.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from class_data import draw_imagefolder
from painted_objects import painted_set, write_coco
from tiny_folder import draw_folder
from torch import nn

from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run_card import RunCard, save_run_network
from kdcache.cache.sources.table import open_source
from kdcache.trainer.config import TrainConfig, write_config

NETWORKS = {
    "segmentation": "deeplabv3:test_resnet",
    "classification": "timm:test_resnet",
    "detection": "gfl(width=16,convs=1):r18",
}
CROPS = {"segmentation": (64, 64), "classification": (32, 32), "detection": (64, 96)}
NAME = "left"


class Left(NamedTuple):
    """A home with one run, and where its images of 'val' lie."""

    home: Path
    run_dir: Path
    images: Path
    spec: str
    network: Network


def left_run(home: Path, task: str, name: str = "", seed: int = 0) -> Left:
    spec, images = _drawn(home / "data", task)
    source = open_source(spec, "val")
    torch.manual_seed(seed)
    network = build_network(
        name or NETWORKS[task],
        task=task,
        num_classes=len(source.class_names),
        output_stride=8 if task == "segmentation" else None,
        role="student",
        weights="none",
    )
    _speak_up(network)
    run_dir = home / "runs" / NAME
    run_dir.mkdir(parents=True)
    write_config(run_dir, TrainConfig(run=NAME, data=spec, student=network.name, steps=7, seed=3), {})
    card = RunCard(
        network={},
        data=spec,
        class_names=tuple(source.class_names),
        crop=CROPS[task],
        output_stride=network.output_stride,
    )
    save_run_network(run_dir, network, card)
    return Left(home, run_dir, images, spec, network.eval())


def _drawn(root: Path, task: str) -> tuple[str, Path]:
    if task == "segmentation":
        draw_folder(root, 4, "val")
        return f"folder:{draw_folder(root, 2)}", root / "val" / "images"
    if task == "classification":
        return f"imagefolder:{draw_imagefolder(root)}", root / "val"
    write_coco(root, painted_set(2), "train")
    return f"coco:{write_coco(root, painted_set(5, 7), 'val')}", root / "images"


def _speak_up(network: Network) -> None:
    """Statistics and biases that no initialisation has, and answers that differ from class to class."""
    draw = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=draw)
            module.running_var.uniform_(0.5, 1.5, generator=draw)
    last = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)][-1]
    if network.grid is not None:  # boxes of some cells, and not of the whole canvas
        bins = network.model.get_submodule("head.bins")
        bins.bias.data.copy_((-0.8 * torch.arange(17)).repeat(4))  # type: ignore[operator, union-attr]
    heads = [network.model.get_submodule(head) for head in network.heads] or [last]
    with torch.no_grad():
        for head in heads:
            head.weight.mul_(20)  # type: ignore[operator, union-attr]
            head.bias.uniform_(-1, 1, generator=draw)  # type: ignore[operator, union-attr]
