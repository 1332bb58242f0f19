"""Files of weights from networks of any memory format: safetensors takes contiguous tensors alone."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import torch as files
from torch import Tensor


def save_file(state: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    files.save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, metadata=metadata)
