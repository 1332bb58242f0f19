"""Your own networks: 'package.module:factory', called as factory(num_classes) -> (module, {tap: module
path}).
 The module maps float (B, 3, H, W) to anything; taps are read by their paths ('backbone.layer4', or
'backbone#3' for an item of a list). It may carry attributes: `pad_multiple` (32 when absent: the
largest stride of its taps; 1 for classification), `pixel_mean` and `pixel_std` of pixels divided by 255
(ImageNet's when absent). A classifier of one input size also says `input_size = (height, width)`.
"""

import importlib
from collections.abc import Mapping

from torch import nn

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.network import Assembly
from kdcache.cache.networks.normalise import IMAGENET_MEAN, IMAGENET_STD
from kdcache.cache.spec import CLASSIFICATION, SEGMENTATION, Task, unknown

PROBE_PX = (64, 96)  # of a classifier that takes images of any size


def assemble_custom(spec: str, num_classes: int | None, task: Task = SEGMENTATION) -> Assembly:
    """Imports and calls the factory. Raises BadOption when it is not there or returns something else."""
    module_name, _, attribute = spec.partition(":")
    module = importlib.import_module(module_name)
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
    if not _is_pair(built):
        raise BadOption(
            f"factory returned {type(built).__name__}, not (module, {{tap: module path}})",
            where=spec,
            fix="return (torch.nn.Module, {'logits': 'head', 'stage4': 'backbone.layer4'})",
        )
    model, taps = built
    classifies = task == CLASSIFICATION
    size_px = tuple(getattr(model, "input_size", ())) if classifies else ()
    logits = str(taps.get("logits", "")).partition("#")[0]
    last = dict(model.named_modules()).get(logits) if logits else None
    return Assembly(
        model=model,
        taps=dict(taps),
        pad_multiple=int(getattr(model, "pad_multiple", 1 if classifies else 32)),
        mean=tuple(getattr(model, "pixel_mean", IMAGENET_MEAN)),
        std=tuple(getattr(model, "pixel_std", IMAGENET_STD)),
        output_stride=1 if classifies else 0,
        input_px=(int(size_px[0]), int(size_px[1])) if size_px else None,
        fixed_size=bool(size_px),
        probe_px=PROBE_PX if classifies else None,
        heads=(logits,) if classifies and isinstance(last, nn.Linear) else (),
    )


def _is_pair(built: object) -> bool:
    return (
        isinstance(built, tuple)
        and len(built) == 2
        and isinstance(built[0], nn.Module)
        and isinstance(built[1], Mapping)
    )
