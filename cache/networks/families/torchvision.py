"""torchvision's DeepLabV3 and FCN on dilated ResNets, trained on COCO's images with VOC's 20 classes."""

import torchvision

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.names import NetworkName
from kdcache.cache.networks.network import Assembly
from kdcache.cache.spec import Task

OUTPUT_STRIDE = 8


def assemble_torchvision(
    name: NetworkName, *, num_classes: int, output_stride: int, aux: bool, task: Task
) -> Assembly:
    """Freshly initialised; weights are put in by the loader. Only stride 8 exists."""
    del task  # one
    if output_stride != OUTPUT_STRIDE:
        raise BadOption(
            f"{name} exists at output stride {OUTPUT_STRIDE} only, not {output_stride}",
            where="--output-stride",
            fix=f"leave it out, or take {name.body.replace('_', ':')}",
        )
    model = torchvision.models.get_model(
        name.body, weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=aux
    )
    # Both heads end in a 1x1 convolution at index 4; what enters it is the output of index 3.
    taps = {f"stage{stage}": f"backbone.layer{stage}" for stage in (1, 2, 3, 4)}
    taps |= {"neck": "classifier.3", "logits": "classifier"}
    if aux:
        taps["aux"] = "aux_classifier"
    return Assembly(
        model=model,
        taps=taps,
        pad_multiple=OUTPUT_STRIDE,
        backbone_path="backbone",
        backbone_extras=frozenset(("fc.weight", "fc.bias")),
    )
