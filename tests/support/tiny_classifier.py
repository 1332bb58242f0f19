"""A classification teacher small enough for tests, named 'tiny_classifier:make': two strided
convolutions, global mean and a linear layer with fixed weights."""

import torch
from torch import Tensor, nn


class TinyClassifier(nn.Module):
    """Taps 'stage1' (stride 4, 5 channels), 'embedding' (B, 6) and 'logits' (B, num_classes). Images of
    28 x 28 and of 32 x 32 pixels both work."""

    pad_multiple = 8  # what every stride divides

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(3, 5, 5, stride=4, padding=2), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(5, 6, 3, stride=2, padding=1), nn.ReLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        self.head = nn.Linear(6, num_classes)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        out_BK: Tensor = self.head(self.pool(self.stage2(self.stage1(images_BCHW))))
        return out_BK


def make(num_classes: int | None, seed: int = 7) -> tuple[nn.Module, dict[str, str]]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = TinyClassifier(num_classes or 3)
    return model, {"stage1": "stage1", "embedding": "pool", "logits": "head"}


def make_other(num_classes: int | None) -> tuple[nn.Module, dict[str, str]]:
    """The same network with other weights, for ensembles."""
    return make(num_classes, seed=8)
