"""'timm:NAME': a timm network without its classifier, its four stages as taps. A head for images comes
later.
"""

from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.encoders import check_stride, find_encoder, stage_places
from kdcache.cache.networks.names import NetworkName
from kdcache.cache.networks.network import Assembly

PAD_MULTIPLE = 32


class Backbone(nn.Module):
    """Holds the encoder at 'encoder', where every other network of ours has it."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images_BCHW: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.encoder(images_BCHW)
        return maps


def assemble_backbone(name: NetworkName, *, output_stride: int) -> Assembly:
    """Stages at strides 4, 8, 16, 32, the last ones less with a smaller output stride."""
    encoder = find_encoder(name)
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
    check_stride(built, output_stride, where=f"network {name}")
    return Assembly(
        model=Backbone(built),
        taps=stage_places(built),
        pad_multiple=PAD_MULTIPLE,
        mean=encoder.mean,
        std=encoder.std,
        backbone_path="encoder.model",
        backbone_extras=encoder.full_keys - set(built.model.state_dict()),
    )
