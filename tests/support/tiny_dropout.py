"""A student of another kind than `tiny_teacher`, named 'tiny_dropout:make': batch statistics, and dropout,
which draws from torch's global numbers in every step."""

from torch import Tensor, nn


class Dropping(nn.Module):
    """Taps 'stage4' (stride 8, 4 channels) and 'logits' (stride 8)."""

    pad_multiple = 8

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 9, stride=8, padding=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3)
        )
        self.head = nn.Conv2d(4, num_classes, 1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(images_BCHW))
        return out


def make(num_classes: int | None) -> tuple[nn.Module, dict[str, str]]:
    return Dropping(num_classes or 3), {"stage4": "body", "logits": "head"}
