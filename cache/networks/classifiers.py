"""'timm:NAME' for classification: the whole timm network with its classifier, its stages and its embedding.

Stages come from timm's `forward_intermediates`, the embedding is what the last linear layer reads. Networks
that take images of any size are tried out (without computing) at one; the others keep to the size they were
made for.
Axes: B batch, H and W cells, C channels, D embedding.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.encoders import NUM_STAGES, find_encoder
from kdcache.cache.networks.names import SAME, NetworkName
from kdcache.cache.networks.network import Assembly

PROBE_PX = (64, 96)  # two and three cells of the usual last stride
NUM_IMAGENET = 1000


class Classifier(nn.Module):
    """A timm network that returns its kept intermediate maps, its embedding and its logits."""

    def __init__(self, make: Callable[[], Any], kept: Sequence[tuple[int, str]] = ()) -> None:
        super().__init__()
        self.fresh = make
        self.network: Any = make()
        self.kept = tuple(kept)  # (index in timm's feature_info, tap)
        self.embedding = nn.Identity()  # a place to read at, whatever timm calls its pooling
        self.answer = nn.Identity()

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        values = {}
        if self.kept:
            final_BCHW, maps = self.network.forward_intermediates(
                images_BCHW, indices=[index for index, _ in self.kept], output_fmt="NCHW"
            )
            values = {tap: map_BCHW for (_, tap), map_BCHW in zip(self.kept, maps, strict=True)}
        else:
            final_BCHW = self.network.forward_features(images_BCHW)
        embedding_BD = self.network.forward_head(final_BCHW, pre_logits=True)
        values["embedding"] = self.embedding(torch.flatten(embedding_BD, 1))
        last = self.network.get_classifier()
        # Some heads are two linear layers or a convolution; timm knows how to run those.
        linear = isinstance(last, nn.Linear)
        values["logits"] = self.answer(
            last(values["embedding"]) if linear else self.network.forward_head(final_BCHW)
        )
        return values


def default_classes(name: NetworkName) -> int:
    """Classes of the pretrained weights of this name; ImageNet's where timm records none."""
    recorded = timm.get_pretrained_cfg(name.body.removesuffix(SAME))
    return NUM_IMAGENET if recorded is None else int(recorded.num_classes)


def assemble_classifier(name: NetworkName, *, num_classes: int) -> Assembly:
    """Freshly initialised. Taps stage1..4 (block1.. of a transformer), embedding, logits.

    Raises BadOption for a name timm does not know and for a network that cannot be read at all.
    """
    encoder = find_encoder(name)  # also refuses unknown names and tags
    make = partial(timm.create_model, encoder.timm_name, num_classes=num_classes, **encoder.options)
    with torch.device("meta"):  # nothing is computed: shapes alone
        shapes = Classifier(make)
    usual_px = tuple(shapes.network.default_cfg["input_size"][1:])
    kept, fixed_size = _usable_maps(shapes, PROBE_PX), False
    if kept is None:
        kept, fixed_size = _usable_maps(shapes, usual_px), True
    if kept is None:
        raise BadOption(
            f"{encoder.timm_name} cannot be read as a classifier",
            where=f"network {name}",
            fix="take a network with forward_features and forward_head (resnet, mobilenet, convnext, vit)",
        )
    model = Classifier(make, [(index, tap) for index, tap, _ in kept])
    infos = _infos(model.network)
    heads = model.network.default_cfg.get("classifier") or ()
    linear = isinstance(model.network.get_classifier(), nn.Linear) and isinstance(heads, str)
    taps = {tap: f"network.{infos[index]['module']}" for index, tap, _ in kept}
    taps |= {"embedding": "embedding", "logits": f"network.{heads}" if linear else "answer"}
    return Assembly(
        model=model,
        taps=taps,
        returns={path: tap for tap, path in taps.items()},
        pad_multiple=1,
        mean=encoder.mean,
        std=encoder.std,
        backbone_path="network",
        output_stride=max((stride for _, _, stride in kept), default=1),
        input_px=(int(usual_px[0]), int(usual_px[1])),
        probe_px=None if fixed_size else PROBE_PX,
        fixed_size=fixed_size,
        heads=tuple(f"network.{head}" for head in ((heads,) if isinstance(heads, str) else heads)),
    )


def _infos(network: Any) -> list[dict[str, Any]]:
    infos = network.feature_info
    return list(getattr(infos, "info", infos))


def _usable_maps(shapes: Classifier, size_px: Sequence[int]) -> list[tuple[int, str, int]] | None:
    """(index, tap, stride) of the maps of whole strides; None when the network does not take this size."""
    network, modules = shapes.network, dict(shapes.network.named_modules())
    images_BCHW = torch.empty((1, 3, *size_px), device="meta")
    shapes.eval()
    try:
        with torch.no_grad():
            if not hasattr(network, "forward_intermediates"):
                shapes(images_BCHW)
                return []
            final, maps = network.forward_intermediates(images_BCHW, output_fmt="NCHW")
            network.forward_head(final, pre_logits=True)
    except (AssertionError, RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError):
        return None  # an image of this size, or this way of reading, does not suit the network
    found = []
    infos = _infos(network)
    for index, map_BCHW in enumerate(maps if len(maps) == len(infos) else ()):
        stride = size_px[0] // map_BCHW.shape[2] if map_BCHW.ndim == 4 else 0
        whole = stride and tuple(n * stride for n in map_BCHW.shape[2:]) == tuple(size_px)
        if whole and infos[index]["module"] in modules:
            found.append((index, stride))
    if len({stride for _, stride in found}) == 1 and len(found) > 1:  # a transformer: blocks, no stages
        return [(index, f"block{number}", s) for number, (index, s) in enumerate(found, start=1)]
    stages = found[-NUM_STAGES:]
    return [(index, f"stage{number}", s) for number, (index, s) in enumerate(stages, start=1)]
