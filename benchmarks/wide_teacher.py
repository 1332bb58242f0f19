"""A teacher that costs almost nothing and says a lot: 'wide_teacher:make'. For benchmarks of reading only."""

import torch
from torch import Tensor, nn

CHANNELS, STRIDE = 256, 8


class Wide(nn.Module):
    """Tap 'stage4': 256 channels at stride 8 after a ReLU, the size of a decoder's features; and logits."""

    pad_multiple = STRIDE

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stage4 = nn.Sequential(nn.Conv2d(3, CHANNELS, STRIDE, stride=STRIDE), nn.ReLU())
        self.head = nn.Conv2d(CHANNELS, num_classes, 1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        out: Tensor = self.head(self.stage4(images_BCHW))
        return out


def make(num_classes: int | None) -> tuple[nn.Module, dict[str, str]]:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = Wide(num_classes or 3)
    return model, {"stage4": "stage4", "logits": "head"}
