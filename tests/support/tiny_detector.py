"""A teacher of objects that is no detector: two levels of maps over the canvas, named by a factory."""

import torch
from torch import Tensor, nn


class TinyDetector(nn.Module):
    """(B, 3, H, W) to maps of strides 8 and 16."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU())
        self.cls3 = nn.Conv2d(8, num_classes, 3, stride=2, padding=1)
        self.box3 = nn.Conv2d(8, 4, 3, stride=2, padding=1)
        self.cls4 = nn.Conv2d(8, num_classes, 3, stride=4, padding=1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        features = self.stem(images_BCHW)
        self.box3(features), self.cls4(features)
        answer: Tensor = self.cls3(features)
        return answer


def make(num_classes: int | None) -> tuple[nn.Module, dict[str, str]]:
    torch.manual_seed(0)
    return TinyDetector(num_classes or 3), {"cls3": "cls3", "box3": "box3", "cls4": "cls4"}
