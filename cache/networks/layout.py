"""In which order a network keeps its maps in memory: channels last wherever that is faster.

A rule over the layers and no trial: the same network computes the same bits in a build, in training, beside
it (`--online`) and when it is resumed, on every machine. Measured on a CPU, seconds of one thread, contiguous
against channels last, forward / training step: CIFAR ResNets 1.21-1.26 / 1.3-1.5, ResNet-50 - / 1.29,
MobileNetV2 at stride 8 1.64 / 1.43, EfficientNet - / 1.45, DenseNet - / 1.17, ResNet-18 at stride 16 1.29 /
1.14; at stride 8, where most of its work is dilated, 0.89 / 0.9-0.98: such networks stay contiguous.
Transformers gain nothing.
"""

from typing import Literal, get_args

import torch
from torch import nn

from kdcache.cache.errors import unknown

MemoryFormat = Literal["contiguous", "channels_last"]
CONTIGUOUS: MemoryFormat = "contiguous"
CHANNELS_LAST: MemoryFormat = "channels_last"
FORMATS: tuple[MemoryFormat, ...] = get_args(MemoryFormat)
FINE_STRIDE = 8  # pixels per cell, at which dilated layers are most of the work
_TORCH = {CONTIGUOUS: torch.contiguous_format, CHANNELS_LAST: torch.channels_last}


def faster_format(model: nn.Module, output_stride: int) -> MemoryFormat:
    """The format in which these layers are faster on a CPU."""
    convolutions = [one for one in model.modules() if isinstance(one, nn.Conv2d)]
    if len(convolutions) < 2:  # patches of a transformer
        return CONTIGUOUS
    if any(1 < one.groups == one.in_channels for one in convolutions):
        return CHANNELS_LAST
    dilated = any(max(one.dilation) > 1 for one in convolutions)
    return CONTIGUOUS if dilated and output_stride <= FINE_STRIDE else CHANNELS_LAST


def lay_out(model: nn.Module, memory_format: str) -> None:
    """Weights of convolutions in that order; what flows through them follows. Raises BadOption."""
    if memory_format not in FORMATS:
        raise unknown("memory format", memory_format, FORMATS, where="memory format of a network")
    model.to(memory_format=_TORCH[memory_format])
