"""Class labels as the losses read them: with mixed images the class of the larger share comes first."""

import torch
from torch import Tensor

from kdcache.losses.step_inputs import Mixed
from kdcache.trainer.stream.batch import Batch


def dominating(batch: Batch, device: torch.device) -> tuple[Tensor, Mixed | None]:
    """Labels int64 on `device` and, for mixed images, the other class with the share (>= 0.5) of the first.

    Where the partner fills more than half of the image, the two classes change places.
    """
    labels = batch.labels.to(device, torch.int64)
    if batch.mixed is None:
        return labels, None
    other_B = batch.mixed.labels_B.to(device, torch.int64)
    share_B = batch.mixed.share_B.to(device, torch.float32)
    smaller_B = share_B < 0.5
    first_B, second_B = torch.where(smaller_B, other_B, labels), torch.where(smaller_B, labels, other_B)
    return first_B, Mixed(second_B, torch.where(smaller_B, 1 - share_B, share_B))
