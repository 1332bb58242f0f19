"""timm encoders behind segmentation heads and as bare backbones: names, statistics, places of the four
stages.
 segmentation-models-pytorch wraps any timm network ('tu-' encoders) as a list of maps at strides 1, 2, 4,
8, 16, 32; the last four are the stages. With a smaller output stride the deep ones are dilated instead of
strided.
"""

from dataclasses import dataclass

import timm
import torch
from segmentation_models_pytorch.encoders import TimmUniversalEncoder
from timm.models import FeatureListNet
from timm.models.efficientnet import EfficientNetFeatures

from kdcache.cache.errors import BadOption, unknown
from kdcache.cache.networks.names import SAME, NetworkName, unknown_network
from kdcache.cache.networks.normalise import IMAGENET_MEAN, IMAGENET_STD

NUM_STAGES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """An encoder before it is built. `options` go to timm as they are."""

    timm_name: str
    options: dict[str, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int  # of stage 4
    full_keys: frozenset[str]  # names in a weights file of the whole timm network, classifier included


def find_encoder(name: NetworkName) -> Encoder:
    """Raises BadOption naming the nearest timm network."""
    same = name.body.endswith(SAME)
    timm_name = name.body.removesuffix(SAME)
    architecture = timm_name.partition(".")[0]
    if not timm.is_model(architecture):
        raise unknown_network(str(name), tuple(f"{name.family}:{model}" for model in timm.list_models()))
    check_tag(timm_name)
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


def check_stride(encoder: TimmUniversalEncoder, output_stride: int, *, where: str) -> None:
    """Raises BadOption when the encoder swallowed the output stride without a word, as some do."""
    reached = max(encoder.model.feature_info.reduction())
    if reached != output_stride:
        raise BadOption(
            f"the encoder has stride {reached} and cannot be dilated to {output_stride}",
            where=where,
            fix=f"pass --output-stride {reached}, or take a ResNet or MobileNet encoder",
        )
