"""Your own networks: 'package.module:factory', called as factory(num_classes) -> (module, {tap: module
path}).

The module maps float (B, 3, H, W) to anything; taps are read by their paths ('backbone.layer4', or
'backbone#3' for an item of a list). It may carry attributes: `pad_multiple` (32 when absent: the largest
stride of its taps; 1 where images are not padded), `pixel_mean` and `pixel_std` of pixels divided by 255
(ImageNet's when absent). Where images are not padded, in classification, a module of one input size also
says `input_size = (height, width)`. A dense detector says `grid = DenseGrid(...)` (cache/grid.py) and has
its maps as the grid's taps: p3, cls3, box3 ...
"""

from collections.abc import Mapping

from torch import nn

from kdcache.cache.errors import BadOption, unknown
from kdcache.cache.grid import DenseGrid, strides_of
from kdcache.cache.networks.layout import CONTIGUOUS
from kdcache.cache.networks.names import NetworkName
from kdcache.cache.networks.network import Assembly
from kdcache.cache.networks.normalise import IMAGENET_MEAN, IMAGENET_STD
from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import task_of
from kdcache.cache.trust import import_named

PROBE_PX = (64, 96)  # of an unpadded network that takes images of any size
PAD_MULTIPLE = 32  # the usual last stride


def assemble_custom(
    name: NetworkName, *, num_classes: int, output_stride: int, aux: bool, task: Task
) -> Assembly:
    """Imports and calls the factory; its module decides about strides and heads.

    Raises BadOption when the factory is not there or returns something else.
    """
    del output_stride, aux
    model, taps = _made(name.body, num_classes or None)
    padded = task_of(task).networks.padded
    size_px = () if padded else tuple(getattr(model, "input_size", ()))
    logits = str(taps.get("logits", "")).partition("#")[0]
    last = dict(model.named_modules()).get(logits) if logits else None
    grid = _grid_of(model, taps, name)
    return Assembly(
        model=model,
        taps=dict(taps),
        pad_multiple=int(getattr(model, "pad_multiple", PAD_MULTIPLE if padded else 1)),
        mean=tuple(getattr(model, "pixel_mean", IMAGENET_MEAN)),
        std=tuple(getattr(model, "pixel_std", IMAGENET_STD)),
        output_stride=0 if padded else 1,
        input_px=(int(size_px[0]), int(size_px[1])) if size_px else None,
        fixed_size=bool(size_px),
        probe_px=None if padded else PROBE_PX,
        memory_format=CONTIGUOUS,
        heads=(logits,) if isinstance(last, nn.Linear) and not padded else (),
        grid=grid,
        strides=strides_of(grid) if grid is not None else {},
    )


def _grid_of(model: nn.Module, taps: Mapping[str, str], name: NetworkName) -> DenseGrid | None:
    """What the module says of its grid. Raises BadOption for something else and for a level without maps."""
    grid = getattr(model, "grid", None)
    if grid is None:
        return None
    if not isinstance(grid, DenseGrid):
        raise BadOption(
            f"attribute 'grid' is a {type(grid).__name__}, not a DenseGrid",
            where=str(name),
            fix="set it to a kdcache.cache.grid.DenseGrid(levels=(3, 4), strides=(8, 16))",
        )
    absent = [tap for tap in strides_of(grid) if tap not in taps]
    if absent:
        raise BadOption(
            f"the grid has taps that the factory does not name: {', '.join(absent)}",
            where=str(name),
            fix="return a place for each of them, such as {'cls3': 'head#cls3'}",
        )
    return grid


def _made(spec: str, num_classes: int | None) -> tuple[nn.Module, Mapping[str, str]]:
    """What the factory returns: a module, and its taps by module path."""
    module_name, _, attribute = spec.partition(":")
    module = import_named(spec)
    factory = getattr(module, attribute, None)
    if not callable(factory):
        legal = [name for name in vars(module) if callable(vars(module)[name]) and not name.startswith("_")]
        raise unknown("factory", attribute, legal, where=f"module {module_name}")
    try:
        built = factory(num_classes)
    except Exception as error:  # code of somebody's own may fail in any way
        raise BadOption(
            f"the factory failed: {type(error).__name__}: {error}",
            where=spec,
            fix="it is called as factory(num_classes) and returns (torch.nn.Module, {tap: module path})",
        ) from error
    pair = isinstance(built, tuple) and len(built) == 2
    if not (pair and isinstance(built[0], nn.Module) and isinstance(built[1], Mapping)):
        raise BadOption(
            f"factory returned {type(built).__name__}, not (module, {{tap: module path}})",
            where=spec,
            fix="return (torch.nn.Module, {'logits': 'head', 'stage4': 'backbone.layer4'})",
        )
    return built[0], built[1]
