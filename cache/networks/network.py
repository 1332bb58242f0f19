"""A network as every part of the project sees it: uint8 pixels in, named maps out, sizes known beforehand.

Input is padded right and bottom to `pad_multiple`, maps are cut back to ceil(size / stride): the map of an
image does not depend on how far it was padded except through the network's own reach. Logits are never
upsampled here. Classifiers are not padded: their maps must have ceil(size / stride) cells by themselves.
Axes: B batch, H and W pixels or cells, C channels, K classes, D channels of the embedding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kdcache.cache.errors import BadOption, unknown
from kdcache.cache.grid import DenseGrid
from kdcache.cache.networks.layout import CHANNELS_LAST, MemoryFormat, faster_format, lay_out
from kdcache.cache.networks.network_config import NetworkConfig
from kdcache.cache.networks.normalise import IMAGENET_MEAN, IMAGENET_STD, Normalise, pad_to_multiple
from kdcache.cache.networks.taps import find_module, read_places, select_item
from kdcache.cache.spec import Task, TensorSpec, ceil_div


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
    # Tap -> pixels per cell where that is known beforehand: a map has ceil(size / stride) cells then, also
    # where no whole number of strides fills the padded size.
    strides: Mapping[str, int] = field(default_factory=dict)
    grid: DenseGrid | None = None  # of a dense detector
    # Named tensors of the library's own file -> those of this network, where they differ.
    adapt: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None
    # Of such a file: the classes that it tells apart, in the order of this network; () where it does not say.
    names_in: Callable[[Mapping[str, Tensor]], tuple[str, ...]] | None = None
    # Of such a file: what of it is left out, in words.
    left_out: Callable[[Mapping[str, Tensor]], tuple[str, ...]] | None = None
    heads: tuple[str, ...] = ()  # paths of the modules whose size is the number of classes
    # Code of somebody's own may ask for the strides of its maps (`view`): it computes in this one.
    memory_format: MemoryFormat | None = None  # None: the faster one
    # What follows is of classifiers.
    output_stride: int = 0  # the network's own; 0: the one that was asked for
    input_px: tuple[int, int] | None = None  # the size it is usually given
    probe_px: tuple[int, int] | None = None  # for the dry run; None: two by three times the padding
    fixed_size: bool = False  # takes input_px and no other size


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
        self.input_px = assembly.input_px
        self.fixed_px = assembly.input_px if assembly.fixed_size else None
        self.heads = assembly.heads
        self.grid = assembly.grid
        self.adapt, self.names_in, self.left_out = assembly.adapt, assembly.names_in, assembly.left_out
        self.class_names: tuple[str, ...] = ()  # that its weights say themselves, by number; (): they do not
        self.notes: tuple[str, ...] = ()  # what a person should know of the weights in it
        self.resting: frozenset[str] = frozenset()  # paths of modules that stay in evaluation mode
        # Two by three multiples: a pooled map of constant size shows two different strides and is found out.
        multiples = (2 * self.pad_multiple, 3 * self.pad_multiple)
        self.probe_px = self.fixed_px or assembly.probe_px or multiples
        self._unpadded = bool(assembly.probe_px or self.fixed_px) and self.pad_multiple == 1
        self.trained_head = trained_head
        self.weights_peeled: tuple[str, ...] = ()  # what was taken off or left out of their file, in words
        self.taps: dict[str, str] = {**assembly.taps, **config.taps}
        self.backbone_path = assembly.backbone_path
        self.backbone_extras = assembly.backbone_extras
        # A tap that was given another place by hand is read there like any other.
        self._side_heads = {
            tap: path for tap, path in assembly.side_heads.items() if self.taps[tap] == assembly.taps[tap]
        }
        self._returns = dict(assembly.returns)
        self.strides = {
            tap: px for tap, px in assembly.strides.items() if self.taps[tap] == assembly.taps[tap]
        }
        self._tried_px: set[tuple[int, int]] = set()  # sizes that an unpadded network was seen to take
        self._known_tap: dict[str, tuple[int, int]] = {}  # tap -> (channels, stride), filled by dry runs
        for tap, path in self.taps.items():
            find_module(self.model, path, where=f"tap '{tap}' of {self.name}")
        self.lay_out(assembly.memory_format or faster_format(self.model, self.output_stride))

    def lay_out(self, memory_format: str) -> None:
        """Compute in this memory format from now on; it changes the last bits of an answer."""
        lay_out(self.model, memory_format)
        self.memory_format = memory_format
        self.normalise.channels_last = memory_format == CHANNELS_LAST

    @property
    def task(self) -> Task:
        return self.config.task

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Names that stand for several taps, one per level: 'fpn' -> ('p3', ...)."""
        return self.config.groups

    @property
    def encoder(self) -> nn.Module | None:
        """The part that a backbone's weights go into; None where it is not known."""
        return self.model.get_submodule(self.backbone_path) if self.backbone_path else None

    def train(self, mode: bool = True) -> "Network":
        super().train(mode)
        for path in self.resting:
            self.model.get_submodule(path).eval()
        return self

    def forward(self, images_BHWC: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        """Images (B, H, W, 3), uint8 or float of 0..255, to maps (B, C, ceil(H/stride), ceil(W/stride)) by
        tap.

        Vectors (B, C) pass as they are. Heads beside the pass (aux) run only when asked for, so that DDP
        sees no parameter without a gradient.
        """
        self._check_names(taps)
        height, width = images_BHWC.shape[1:3]
        padded_BHWC = pad_to_multiple(images_BHWC, self.pad_multiple)
        return self._cut(self.normalise(padded_BHWC), taps, height, width)

    def read_normalised(self, pixels_BCHW: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        """Float (B, 3, H, W), normalised already, to taps as `forward` gives them, with a gradient to the
        pixels.

        Nothing is padded: sides must be multiples of `pad_multiple`.
        """
        self._check_names(taps)
        height, width = pixels_BCHW.shape[2:]
        if height % self.pad_multiple or width % self.pad_multiple:
            raise BadOption(
                f"sides of {height}x{width} pixels are no multiples of {self.pad_multiple}",
                where=f"normalised input of {self.name}",
                fix="make images of a size that needs no padding",
            )
        return self._cut(pixels_BCHW, taps, height, width)

    def maps_of(self, pixels_BCHW: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        """The same as the modules give them: of sides that the network takes, nothing cut off, nothing
        looked at. What is traced into a graph of any size reads this."""
        return self._read(pixels_BCHW, taps)

    def classifier_weight(self) -> Tensor | None:
        """(K, D) of the linear layer that gives the logits; None where they come from anything else."""
        last = self.model.get_submodule(self.heads[0]) if len(self.heads) == 1 else None
        if isinstance(last, nn.Conv2d) and last.kernel_size == (1, 1):
            return last.weight.flatten(1)  # some networks of timm pool first and convolve one cell
        return last.weight if isinstance(last, nn.Linear) else None

    def tap_specs(self, taps: Sequence[str], height: int, width: int) -> dict[str, TensorSpec]:
        """Exact shapes for an image of this size, from one pass over a few pixels (kept for later calls).

        An unpadded network is run once at the size itself: raises BadOption where it gives other maps.
        """
        self._check_names(taps)
        if self._unpadded and (height, width) not in self._tried_px:
            self._try_size(height, width)
        return self._specs(taps, height, width)

    def _specs(self, taps: Sequence[str], height: int, width: int) -> dict[str, TensorSpec]:
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

    def _cut(self, inputs_BCHW: Tensor, taps: Sequence[str], height: int, width: int) -> dict[str, Tensor]:
        """One pass; maps without the cells that see only padding."""
        size_px = (inputs_BCHW.shape[2], inputs_BCHW.shape[3])
        if self.fixed_px:
            self._check_size(size_px)
        values = self._read(inputs_BCHW, taps)
        if self._unpadded:
            specs = self._specs(taps, height, width)
            for tap in taps:
                _check_cells(values[tap], specs[tap], f"tap '{tap}' of {self.name}", size_px)
            return {tap: values[tap] for tap in taps}
        return {tap: self._cut_tap(values[tap], tap, size_px, height, width) for tap in taps}

    def _cut_tap(self, value: Tensor, tap: str, size_px: tuple[int, int], height: int, width: int) -> Tensor:
        stride = self._stride(value, tap, size_px)
        return value[:, :, : ceil_div(height, stride), : ceil_div(width, stride)] if stride else value

    def _stride(self, value: Tensor, tap: str, padded_px: tuple[int, int]) -> int:
        """Input pixels per cell, as declared or as the size of the map says; 0 for a vector (B, C)."""
        stride = self.strides.get(tap)
        if stride is None:
            return _stride(value, tap, padded_px)
        cells = tuple(ceil_div(side, stride) for side in padded_px)
        if value.ndim != 4 or tuple(value.shape[2:]) != cells:
            raise BadOption(
                f"{tuple(value.shape)} for {padded_px[0]}x{padded_px[1]} pixels, and {cells[0]}x{cells[1]} "
                f"cells of the declared stride {stride}",
                where=f"tap '{tap}' of {self.name}",
                fix="declare the grid that the maps have: (batch, channels, height, width), every level half "
                "of the one before, rounded up",
            )
        return stride

    def try_out(self) -> None:
        """Every tap once, at the size of the dry run. Raises BadOption for a place that gives no map."""
        self._known_tap.update(self._dry_run(list(self.taps)))
        self._tried_px.add(self.probe_px)

    def _dry_run(self, taps: Sequence[str]) -> dict[str, tuple[int, int]]:
        device = self.normalise.mean.device
        with _resting(self), torch.no_grad():
            blank_BHWC = torch.zeros((1, *self.probe_px, 3), dtype=torch.uint8, device=device)
            values = self._read(self.normalise(blank_BHWC), taps)
        return {tap: (values[tap].shape[1], self._stride(values[tap], tap, self.probe_px)) for tap in taps}

    def _try_size(self, height: int, width: int) -> None:
        blank_BCHW = torch.zeros((1, 3, height, width), device=self.normalise.mean.device)
        with _resting(self), torch.no_grad():
            try:
                self._cut(blank_BCHW.to(self.normalise.mean.dtype), list(self.taps), height, width)
            except RuntimeError as failure:
                raise BadOption(
                    f"{self.name} does not take images of {height}x{width} pixels: {failure}",
                    where="input of a network",
                    fix="take larger images (--crop), or a network made for small ones (resnet20, wrn-16-2)",
                ) from failure
        self._tried_px.add((height, width))

    def _check_size(self, size_px: tuple[int, int]) -> None:
        if self.fixed_px and size_px != self.fixed_px:
            height, width = self.fixed_px
            raise BadOption(
                f"{self.name} takes images of {height}x{width} pixels only, not {size_px[0]}x{size_px[1]}",
                where="input of a network",
                fix=f"pass --crop {height}x{width}, or take a convolutional network",
            )

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


def _check_cells(value: Tensor, spec: TensorSpec, where: str, size_px: tuple[int, int]) -> None:
    given = (*value.shape[2:], value.shape[1])
    if given != spec.shape:
        raise BadOption(
            f"a map of {given[0]}x{given[1]} cells for {size_px[0]}x{size_px[1]} pixels, not the "
            f"{spec.shape[0]}x{spec.shape[1]} of stride {spec.stride}",
            where=where,
            fix=f"take images whose sides are multiples of {spec.stride} (--crop)",
        )
