"""A classifier that costs almost nothing and has a ResNet's last map: 'peers_teacher:make'. For peers.py
alone."""

import torch
from torch import Tensor, nn

CHANNELS, STRIDE = 512, 8


class Pooled(nn.Module):
    """Tap 'stage4': 512 channels at stride 8 after a ReLU, 7x7 cells of a 56x56 image; and logits."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stage4 = nn.Sequential(nn.Conv2d(3, CHANNELS, STRIDE, stride=STRIDE), nn.ReLU())
        self.head = nn.Linear(CHANNELS, num_classes)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        out: Tensor = self.head(self.stage4(images_BCHW).mean((2, 3)))
        return out


def make(num_classes: int | None) -> tuple[nn.Module, dict[str, str]]:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = Pooled(num_classes or 10)
    return model, {"stage4": "stage4", "logits": "head"}
