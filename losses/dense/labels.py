"""Labels at the size of a map."""

import torch
from torch import Tensor


def nearest_labels(labels_BHW: Tensor, height: int, width: int) -> Tensor:
    """(B, H, W) -> (B, height, width): cell i takes the label of row floor(i * H / height), columns alike."""
    rows = _sources(labels_BHW.shape[1], height, labels_BHW.device)
    columns = _sources(labels_BHW.shape[2], width, labels_BHW.device)
    return labels_BHW[:, rows[:, None], columns]


def _sources(pixels: int, cells: int, device: torch.device) -> Tensor:
    return torch.arange(cells, device=device) * pixels // cells
