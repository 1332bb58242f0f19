"""timm's networks: encoders behind segmentation heads, bare backbones, and whole classifiers.

Encoders and backbones ('timm:NAME' for segmentation, four stages as taps, no classifier) are those of
segmentation-models-pytorch, which wraps any timm network ('tu-' encoders) as a list of maps at strides 1, 2,
4, 8, 16, 32; the last four are the stages. With a smaller output stride the deep ones are dilated instead of
strided.

Classifiers ('timm:NAME' for classification) are the whole network. Their stages come from timm's
`forward_intermediates`, the embedding is what the last linear layer reads. Networks that take images of any
size are tried out (without computing) at one; the others keep to the size they were made for.
Axes: B batch, H and W cells, C channels, D embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torch
from segmentation_models_pytorch.encoders import TimmUniversalEncoder, get_encoder
from timm.models import FeatureListNet
from timm.models.efficientnet import EfficientNetFeatures
from torch import Tensor, nn

from kdcache.cache.errors import BadOption, unknown
from kdcache.cache.networks.names import SAME, NetworkName, unknown_network
from kdcache.cache.networks.network import Assembly
from kdcache.cache.networks.normalise import IMAGENET_MEAN, IMAGENET_STD
from kdcache.cache.spec import Task

NUM_STAGES = 4
PAD_MULTIPLE = 32
PROBE_PX = (64, 96)  # two and three cells of the usual last stride
NUM_IMAGENET = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """An encoder before it is built. `options` go to timm as they are."""

    timm_name: str
    options: dict[str, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int  # of stage 4
    full_keys: frozenset[str]  # names in a weights file of the whole timm network, classifier included


def find_encoder(name: NetworkName, task: Task) -> Encoder:
    """The encoder of a name, not built yet. Raises BadOption naming the nearest timm network."""
    check_encoder(name, task)
    same = name.body.endswith(SAME)
    timm_name = name.body.removesuffix(SAME)
    # On the meta device a ResNet-101 costs a tenth of a second and no memory.
    with torch.device("meta"):
        full = timm.create_model(timm_name)
    mean, std = statistics(timm_name)
    return Encoder(
        timm_name=timm_name,
        options={"pad_type": "same"} if same else {},
        mean=(0.5, 0.5, 0.5) if same else mean,
        std=(0.5, 0.5, 0.5) if same else std,
        channels=int(full.feature_info[-1]["num_chs"]),
        full_keys=frozenset(full.state_dict()),
    )


def check_encoder(name: NetworkName, task: Task, *, where: str = "name of a network") -> None:
    """Raises BadOption for a network or a tag that timm does not have, naming the nearest. Builds nothing."""
    timm_name = name.body.removesuffix(SAME)
    architecture = timm_name.partition(".")[0]
    if not timm.is_model(architecture):
        candidates = tuple(f"{name.family}:{model}" for model in timm.list_models())
        raise unknown_network(str(name), candidates, task=task, where=where)
    check_tag(timm_name)


def check_tag(timm_name: str) -> None:
    """Raises BadOption when 'resnet18.a1_in1k' names a tag that timm does not know for the architecture."""
    architecture, _, tag = timm_name.partition(".")
    tags = [listed.partition(".")[2] for listed in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise unknown("weights tag", tag, tags, where=f"pretrained weights of {architecture}")


def statistics(timm_name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std that the pretrained weights of this name expect; ImageNet's where timm records none."""
    recorded = timm.get_pretrained_cfg(timm_name)
    if recorded is None:
        return IMAGENET_MEAN, IMAGENET_STD
    return tuple(recorded.mean), tuple(recorded.std)


def stage_places(encoder: TimmUniversalEncoder) -> dict[str, str]:
    """Tap -> place of 'stage1' (stride 4) to 'stage4' for a smp timm encoder that sits at 'encoder'.

    A module path where the feature is that module's own output, so that it can be recognised; otherwise an
    item of the encoder's list, which is right for every wrapper timm has (channels-last transformers,
    hooks).
    """
    body = encoder.model
    names = list(body.feature_info.module_name())
    first = len(names) - NUM_STAGES
    places = {}
    for stage in range(NUM_STAGES):
        path = _module_path(encoder, names[first + stage])
        places[f"stage{stage + 1}"] = f"encoder.model.{path}" if path else f"encoder#{stage + 2}"
    return places


def _module_path(encoder: TimmUniversalEncoder, name: str) -> str | None:
    body = encoder.model
    plain = isinstance(body, FeatureListNet) or (
        isinstance(body, EfficientNetFeatures) and body.feature_hooks is None
    )
    if not plain or getattr(encoder, "_is_channel_last", False):
        return None
    modules = dict(body.named_modules())
    # FeatureListNet turns 'stages.0' into a child named 'stages_0'.
    return next((path for path in (name, name.replace(".", "_")) if path in modules), None)


def check_dilation(encoder: TimmUniversalEncoder, output_stride: int, *, where: str) -> None:
    """Raises BadOption when the encoder swallowed the output stride without a word, as some do."""
    reached = max(encoder.model.feature_info.reduction())
    if reached != output_stride:
        raise BadOption(
            f"the encoder has stride {reached} and cannot be dilated to {output_stride}",
            where=where,
            fix=f"pass --output-stride {reached}, or take a ResNet or MobileNet encoder",
        )


class Backbone(nn.Module):
    """Holds the encoder at 'encoder', where every other network of ours has it."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images_BCHW: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.encoder(images_BCHW)
        return maps


def assemble_backbone(
    name: NetworkName, *, num_classes: int, output_stride: int, aux: bool, task: Task
) -> Assembly:
    """Stages at strides 4, 8, 16, 32, the last ones less with a smaller output stride."""
    del num_classes, aux  # features alone
    encoder = find_encoder(name, task)
    try:
        built = get_encoder(
            f"tu-{encoder.timm_name}", weights=None, output_stride=output_stride, **encoder.options
        )
    except (TypeError, ValueError, NotImplementedError, AssertionError, RuntimeError) as refusal:
        raise BadOption(
            f"{encoder.timm_name} gives no maps at output stride {output_stride}: {refusal}",
            where=f"network {name}",
            fix="pass --output-stride 32, or take a network with four stages (resnet, mobilenet, convnext)",
        ) from refusal
    check_dilation(built, output_stride, where=f"network {name}")
    return Assembly(
        model=Backbone(built),
        taps=stage_places(built),
        pad_multiple=PAD_MULTIPLE,
        mean=encoder.mean,
        std=encoder.std,
        backbone_path="encoder.model",
        backbone_extras=encoder.full_keys - set(built.model.state_dict()),
    )


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


def assemble_classifier(
    name: NetworkName, *, num_classes: int, output_stride: int, aux: bool, task: Task
) -> Assembly:
    """Freshly initialised, at its own stride. Taps stage1..4 (block1.. of a transformer), embedding, logits.

    Raises BadOption for a name timm does not know and for a network that cannot be read at all.
    """
    del output_stride, aux
    encoder = find_encoder(name, task)  # also refuses unknown names and tags
    make = partial(timm.create_model, encoder.timm_name, num_classes=num_classes, **encoder.options)
    with torch.device("meta"):  # nothing is computed: shapes alone
        shapes = Classifier(make)
    usual_px = tuple(shapes.network.default_cfg["input_size"][1:])
    any_size = _usable_maps(shapes, PROBE_PX)
    fixed_size = any_size is None
    kept = _usable_maps(shapes, usual_px) if any_size is None else any_size
    if kept is None:
        raise _unreadable(name, encoder)
    model = Classifier(make, [(index, tap) for index, tap, _ in kept])
    module_of = [entry["module"] for entry in _infos(model.network)]
    heads = model.network.default_cfg.get("classifier") or ()
    linear = isinstance(model.network.get_classifier(), nn.Linear) and isinstance(heads, str)
    taps = {tap: f"network.{module_of[index]}" for index, tap, _ in kept}
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


def _unreadable(name: NetworkName, encoder: Encoder) -> BadOption:
    return BadOption(
        f"{encoder.timm_name} cannot be read as a classifier",
        where=f"network {name}",
        fix="take a network with forward_features and forward_head (resnet, mobilenet, convnext, vit)",
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
    whole_maps = []  # (index, stride)
    infos = _infos(network)
    for index, map_BCHW in enumerate(maps if len(maps) == len(infos) else ()):
        stride = size_px[0] // map_BCHW.shape[2] if map_BCHW.ndim == 4 else 0
        whole = stride and tuple(n * stride for n in map_BCHW.shape[2:]) == tuple(size_px)
        if whole and infos[index]["module"] in modules:
            whole_maps.append((index, stride))
    one_stride = len({stride for _, stride in whole_maps}) == 1
    if one_stride and len(whole_maps) > 1:  # a transformer: blocks, no stages
        return [(index, f"block{number}", s) for number, (index, s) in enumerate(whole_maps, start=1)]
    stages = whole_maps[-NUM_STAGES:]
    return [(index, f"stage{number}", s) for number, (index, s) in enumerate(stages, start=1)]
