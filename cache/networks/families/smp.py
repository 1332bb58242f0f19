"""DeepLabV3 and PSPNet from segmentation-models-pytorch, on any timm encoder, logits at the encoder's stride.

DeepLabV3: Chen et al. 2017 (arXiv 1706.05587). PSPNet: Zhao et al. 2017 (arXiv 1612.01105). Only the 'tu-'
encoders honour an output stride in both heads. Widths follow the distillation papers: 256 (DeepLabV3) or
512 (PSPNet) on encoders with 1024 channels or more, 128 on small ones.
"""

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.families.timm import (
    NUM_STAGES,
    Encoder,
    check_dilation,
    find_encoder,
    stage_places,
)
from kdcache.cache.networks.names import NetworkName
from kdcache.cache.networks.network import Assembly
from kdcache.cache.spec import Task

STRIDES = {"deeplabv3": (8, 16), "pspnet": (8, 16, 32)}
WIDE = 1024  # channels of stage 4
WIDTHS = {"deeplabv3": (128, 256), "pspnet": (128, 512)}  # small, wide


class Segmenter(nn.Module):
    """The parts of a smp network under their own names, returning every tap instead of the logits alone."""

    def __init__(self, parts: smp.base.SegmentationModel, aux_head: nn.Module | None) -> None:
        super().__init__()
        self.encoder = parts.encoder
        self.decoder = parts.decoder
        self.segmentation_head = parts.segmentation_head
        if aux_head is not None:
            self.aux_head = aux_head  # run by Network, only when asked for

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        maps = self.encoder(images_BCHW)
        neck = self.decoder(maps)
        stages = {f"stage{stage + 1}": maps[stage + 2] for stage in range(NUM_STAGES)}
        return {**stages, "neck": neck, "logits": self.segmentation_head(neck)}


def assemble_segmentation(
    name: NetworkName, *, num_classes: int, output_stride: int, aux: bool, task: Task
) -> Assembly:
    """The head on its encoder, freshly initialised.

    `aux` adds the FCN head on stage 3 where the encoder is a ResNet and is without effect elsewhere:
    MobileNets are trained without one.
    """
    if output_stride not in STRIDES[name.family]:
        raise BadOption(
            f"{name} cannot have output stride {output_stride}",
            where="--output-stride",
            fix=f"legal: {', '.join(map(str, STRIDES[name.family]))}",
        )
    encoder = find_encoder(name, task)
    model = _build(name, encoder, num_classes, output_stride)
    check_dilation(model.encoder, output_stride, where=f"encoder of {name}")
    taps = {**stage_places(model.encoder), "neck": "decoder", "logits": "segmentation_head"}
    returns = {path: tap for tap, path in taps.items()}
    side_heads = {}
    aux_head = None
    if aux and taps["stage3"].endswith(".layer3"):
        aux_head = auxiliary_head(model.encoder.out_channels[-2], num_classes)
        side_heads["aux"] = taps["stage3"]
        taps["aux"] = "aux_head"
    return Assembly(
        model=Segmenter(model, aux_head),
        taps=taps,
        returns=returns,
        pad_multiple=output_stride,
        mean=encoder.mean,
        std=encoder.std,
        side_heads=side_heads,
        backbone_path="encoder.model",
        backbone_extras=encoder.full_keys - set(model.encoder.model.state_dict()),
    )


def auxiliary_head(in_channels: int, num_classes: int) -> nn.Sequential:
    """The FCN head of the papers' networks: (B, in, H, W) -> (B, classes, H, W), a quarter of the channels
    between.
    """
    width = in_channels // 4
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Conv2d(width, num_classes, 1),
    )


def _build(
    name: NetworkName, encoder: Encoder, num_classes: int, output_stride: int
) -> smp.base.SegmentationModel:
    width = WIDTHS[name.family][encoder.channels >= WIDE]
    common = {"encoder_weights": None, "encoder_depth": 5, "classes": num_classes, "upsampling": 1}
    timm_encoder = f"tu-{encoder.timm_name}"
    try:
        if name.family == "pspnet":
            # PSPNet has no parameter for the stride: the keyword passes through to the encoder.
            return smp.PSPNet(
                timm_encoder,
                psp_out_channels=width,
                output_stride=output_stride,
                **common,
                **encoder.options,
            )
        return smp.DeepLabV3(
            timm_encoder,
            decoder_channels=width,
            encoder_output_stride=output_stride,
            **common,
            **encoder.options,
        )
    except (TypeError, ValueError, NotImplementedError, AssertionError, RuntimeError) as refusal:
        raise BadOption(
            f"{encoder.timm_name} cannot be an encoder of stride {output_stride}: {refusal}",
            where=f"network {name}",
            fix="take a ResNet or MobileNet encoder (r18, r34, r50, r101, mbv2)",
        ) from refusal
