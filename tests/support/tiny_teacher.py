"""A teacher small enough for tests, named 'tiny_teacher:make': three strided convolutions with fixed
weights."""

import torch
from torch import Tensor, nn


class Tiny(nn.Module):
    """Taps 'stage1' (stride 4, 5 channels), 'stage4' (stride 8, 6 channels), 'logits' (stride 8)."""

    pad_multiple = 8

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(3, 5, 5, stride=4, padding=2), nn.ReLU())
        self.stage4 = nn.Sequential(nn.Conv2d(5, 6, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Conv2d(6, num_classes, 1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        out: Tensor = self.head(self.stage4(self.stage1(images_BCHW)))
        return out


def make(num_classes: int | None) -> tuple[nn.Module, dict[str, str]]:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = Tiny(num_classes or 3)
    return model, {"stage1": "stage1", "stage4": "stage4", "logits": "head"}
