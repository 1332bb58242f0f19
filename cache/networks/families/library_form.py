"""A student in a library's own form: a folder that timm or segmentation-models-pytorch opens by itself.

Both keep `config.json` and `model.safetensors`. timm has places for normalisation and class names; smp hands
keys that begin with '_' to nobody, so they stand there under `_kdcache`.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import timm
from torch import nn

from kdcache.cache.errors import BadOption
from kdcache.cache.files.regular import read_regular
from kdcache.cache.networks.families.smp import WIDE, WIDTHS, Segmenter
from kdcache.cache.networks.families.timm import Classifier, Encoder, find_encoder
from kdcache.cache.networks.names import NetworkName, parse_name
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run_card import save_tensors

CONFIG, WEIGHTS = "config.json", "model.safetensors"
CONFIG_BYTES = 16 << 20
_CLASSES = {"deeplabv3": smp.DeepLabV3, "pspnet": smp.PSPNet}  # by family
_OURS = "_kdcache"


class InLibrary(NamedTuple):
    """A network that a library opened, and the normalisation that its folder says."""

    model: nn.Module  # (B, 3, H, W) normalised -> logits
    mean: tuple[float, ...]  # of pixels of 0..1
    std: tuple[float, ...]


def write_timm(network: Network, folder: Path, class_names: Sequence[str], input_px: tuple[int, int]) -> None:
    """A folder for `timm.create_model('local-dir:FOLDER', pretrained=True)`. Raises BadOption for a network
    that timm does not have."""
    model, (_, encoder) = network.model, _encoder(network, "timm", Classifier)
    assert isinstance(model, Classifier)
    config = {
        "architecture": encoder.timm_name.partition(".")[0],
        "num_classes": network.num_classes,
        "num_features": int(model.network.num_features),
        "label_names": list(class_names),
        "pretrained_cfg": {
            **_usual(encoder),
            "num_classes": network.num_classes,
            "input_size": [3, *input_px],
            "fixed_input_size": network.fixed_px is not None,
            "interpolation": "bilinear",
            "crop_pct": 0.875,
            "crop_mode": "center",
            **_normalisation(network),
        },
        **({"model_args": encoder.options} if encoder.options else {}),
    }
    _write(folder, config, model.network)


def open_timm(folder: Path) -> InLibrary:
    """What `write_timm` wrote, as timm opens it."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    said = model.pretrained_cfg
    return InLibrary(model, tuple(said["mean"]), tuple(said["std"]))


def write_smp(network: Network, folder: Path, class_names: Sequence[str], input_px: tuple[int, int]) -> None:
    """A folder for `segmentation_models_pytorch.from_pretrained(FOLDER)`, whose logits are enlarged to the
    size of an input that is a multiple of the stride. Raises BadOption for a network that smp does not have.
    """
    del input_px
    name, encoder = _encoder(network, "smp", Segmenter)
    width = WIDTHS[name.family][encoder.channels >= WIDE]
    common = {
        "encoder_name": f"tu-{encoder.timm_name}",
        "encoder_depth": 5,
        "encoder_weights": None,
        "in_channels": 3,
        "classes": network.num_classes,
        "activation": None,
        "upsampling": network.output_stride,
        "aux_params": None,
        **encoder.options,
    }
    own = (
        {"psp_out_channels": width, "output_stride": network.output_stride}
        if name.family == "pspnet"
        else {"decoder_channels": width, "encoder_output_stride": network.output_stride}
    )
    ours = {**_normalisation(network), "label_names": list(class_names), "multiple": network.pad_multiple}
    kind = _CLASSES[name.family]
    built = kind(**common, **own)
    # The parts are the same modules under the same names; what is beside them, an auxiliary head, stays here.
    wanted = set(built.state_dict())
    built.load_state_dict({k: v for k, v in network.model.state_dict().items() if k in wanted})
    _write(folder, {"_model_class": kind.__name__, **common, **own, _OURS: ours}, built)


def open_smp(folder: Path) -> InLibrary:
    """What `write_smp` wrote, as smp opens it, but for the last enlargement: the judge does that."""
    with redirect_stdout(StringIO()):  # the hub's library says where it reads from
        model = smp.from_pretrained(str(folder)).eval()
    model.segmentation_head[1] = nn.Identity()
    said = json.loads(read_regular(folder / CONFIG, CONFIG_BYTES))[_OURS]
    return InLibrary(model, tuple(said["mean"]), tuple(said["std"]))


def _encoder(network: Network, library: str, kind: type[nn.Module]) -> tuple[NetworkName, Encoder]:
    """Raises BadOption for a network of another making."""
    if not isinstance(network.model, kind):
        raise BadOption(
            f"{network.name} is no network that {library} can build again from its name",
            where=f"--to {library}",
            fix="write a graph, which needs no library: --to onnx or --to pt2",
        )
    name = parse_name(network.name, task=network.task)
    return name, find_encoder(name, network.task)


def _usual(encoder: Encoder) -> Mapping[str, Any]:
    """What timm must know of the first and last layers of an architecture."""
    recorded = timm.get_pretrained_cfg(encoder.timm_name)
    return {} if recorded is None else {"first_conv": recorded.first_conv, "classifier": recorded.classifier}


def _normalisation(network: Network) -> dict[str, list[float]]:
    return {"mean": network.normalise.mean.tolist(), "std": network.normalise.std.tolist()}


def _write(folder: Path, config: Mapping[str, Any], model: nn.Module) -> None:
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    save_tensors(state, folder / WEIGHTS)
    (folder / CONFIG).write_text(f"{json.dumps(config, indent=1)}\n")
