"""A network as every part of the project sees it: uint8 pixels in, named maps out, sizes known beforehand.
 Input is padded right and bottom to `pad_multiple`, maps are cut back to ceil(size / stride): the map of an
image does not depend on how far it was padded except through the network's own reach. Logits are never
upsampled here. Axes: B batch, H and W pixels or cells, C channels.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields

import torch
from torch import Tensor, nn

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.normalise import IMAGENET_MEAN, IMAGENET_STD, Normalise, pad_to_multiple
from kdcache.cache.networks.taps import find_module, read_places, select_item
from kdcache.cache.spec import TensorSpec, ceil_div, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """What rebuilds a network, weights apart. `taps` holds only the places named by hand."""

    name: str
    num_classes: int  # 0 for a backbone alone
    output_stride: int
    aux: bool = False
    taps: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, object], *, where: str = "network configuration") -> "NetworkConfig":
        """Raises BadOption for an unknown, absent or wrongly typed field: `raw` comes from a file."""
        legal = [entry.name for entry in fields(cls)]
        for name in raw:
            if name not in legal:
                raise unknown("field of a network", name, legal, where=where)
        taps = raw.get("taps", {})
        numbers = [raw.get("num_classes"), raw.get("output_stride")]
        if not (
            isinstance(raw.get("name"), str)
            and all(type(n) is int for n in numbers)
            and isinstance(taps, dict)
        ):
            raise BadOption(
                f"not a network configuration: {dict(raw)}", where=where, fix="train the run again"
            )
        return cls(
            name=str(raw["name"]),
            num_classes=int(str(raw["num_classes"])),
            output_stride=int(str(raw["output_stride"])),
            aux=bool(raw.get("aux", False)),
            taps={str(tap): str(path) for tap, path in taps.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """What a family of networks hands over: a module, where its taps are, and how its weight files are
    named.
    """

    model: nn.Module  # (B, 3, H, W) float -> anything
    taps: Mapping[str, str]
    pad_multiple: int
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    # What the module returns in a dictionary: path -> key. Read without hooks, so that torch.compile sees one
    # graph (registering a hook breaks it, and the network then runs uncompiled).
    returns: Mapping[str, str] = field(default_factory=dict)
    side_heads: Mapping[str, str] = field(default_factory=dict)  # head outside the pass: tap -> path it reads
    backbone_path: str = ""  # where a file with plain backbone keys goes; '' when there is no such place
    backbone_extras: frozenset[str] = frozenset()  # keys of such a file without a place here: its classifier


class Network(nn.Module):
    """See the module's text. `trained_head` is False while the classifier is freshly initialised."""

    def __init__(self, config: NetworkConfig, assembly: Assembly, *, trained_head: bool) -> None:
        super().__init__()
        self.normalise = Normalise(assembly.mean, assembly.std)
        self.model = assembly.model
        self.config = config
        self.name = config.name
        self.num_classes = config.num_classes
        self.output_stride = config.output_stride
        self.pad_multiple = assembly.pad_multiple
        self.trained_head = trained_head
        self.taps: dict[str, str] = {**assembly.taps, **config.taps}
        self.backbone_path = assembly.backbone_path
        self.backbone_extras = assembly.backbone_extras
        # A tap that was given another place by hand is read there like any other.
        self._side_heads = {
            tap: path for tap, path in assembly.side_heads.items() if self.taps[tap] == assembly.taps[tap]
        }
        self._returns = dict(assembly.returns)
        self._known_tap: dict[str, tuple[int, int]] = {}  # tap -> (channels, stride), filled by dry runs
        for tap, path in self.taps.items():
            find_module(self.model, path, where=f"tap '{tap}' of {self.name}")

    def forward(self, images_BHWC: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        """Images (B, H, W, 3), uint8 or float of 0..255, to maps (B, C, ceil(H/stride), ceil(W/stride)) by
        tap.

        Vectors (B, C) pass as they are. Heads beside the pass (aux) run only when asked for, so that DDP
        sees no parameter without a gradient.
        """
        self._check_names(taps)
        height, width = images_BHWC.shape[1:3]
        padded_BHWC = pad_to_multiple(images_BHWC, self.pad_multiple)
        values = self._read(self.normalise(padded_BHWC), taps)
        padded = (padded_BHWC.shape[1], padded_BHWC.shape[2])
        return {tap: _cut(values[tap], tap, padded, height, width) for tap in taps}

    def tap_specs(self, taps: Sequence[str], height: int, width: int) -> dict[str, TensorSpec]:
        """Exact shapes for an image of this size, from one pass over a few pixels (kept for later calls)."""
        self._check_names(taps)
        unseen = [tap for tap in taps if tap not in self._known_tap]
        if unseen:
            self._known_tap.update(self._dry_run(unseen))
        specs = {}
        for tap in taps:
            channels, stride = self._known_tap[tap]
            cells = (ceil_div(height, stride), ceil_div(width, stride)) if stride else ()
            specs[tap] = TensorSpec((*cells, channels), stride)
        return specs

    def _read(self, inputs_BCHW: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        places = {tap: self._side_heads.get(tap, self.taps[tap]) for tap in taps}
        hooked = {tap: path for tap, path in places.items() if path not in self._returns}
        returned, values = read_places(self.model, inputs_BCHW, hooked)
        for tap, path in places.items():
            if path in self._returns:
                values[tap] = select_item(returned, self._returns[path], where=f"tap '{tap}'")
            if tap in self._side_heads:
                values[tap] = self.model.get_submodule(self.taps[tap])(values[tap])
        return values

    def _dry_run(self, taps: Sequence[str]) -> dict[str, tuple[int, int]]:
        # Two by three multiples: a pooled map of constant size shows two different strides and is found out.
        size_px = (2 * self.pad_multiple, 3 * self.pad_multiple)
        device = self.normalise.mean.device
        with _resting(self), torch.no_grad():
            blank_BHWC = torch.zeros((1, *size_px, 3), dtype=torch.uint8, device=device)
            values = self._read(self.normalise(blank_BHWC), taps)
        return {tap: (values[tap].shape[1], _stride(values[tap], tap, size_px)) for tap in taps}

    def _check_names(self, taps: Sequence[str]) -> None:
        for tap in taps:
            if tap not in self.taps:
                raise unknown("tap", tap, self.taps, where=f"taps of {self.name}")


@contextmanager
def _resting(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; afterwards every submodule is as it was (some may have been frozen)."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in modes:
            child.training = training


def _stride(value: Tensor, tap: str, padded_px: tuple[int, int]) -> int:
    """Input pixels per cell; 0 for a vector (B, C)."""
    if value.ndim == 2:
        return 0
    if value.ndim == 4:
        cells = (value.shape[2], value.shape[3])
        stride = padded_px[0] // cells[0]
        if (cells[0] * stride, cells[1] * stride) == padded_px:
            return stride
    raise BadOption(
        f"{tuple(value.shape)} for {padded_px[0]}x{padded_px[1]} pixels is no map of one whole stride",
        where=f"tap '{tap}'",
        fix="name a module that returns (batch, channels, height, width) at a stride that divides the "
        "padding, or a vector (batch, channels)",
    )


def _cut(value: Tensor, tap: str, padded_px: tuple[int, int], height: int, width: int) -> Tensor:
    stride = _stride(value, tap, padded_px)
    return value[:, :, : ceil_div(height, stride), : ceil_div(width, stride)] if stride else value
