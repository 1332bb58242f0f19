"""Learned parts between a student's map and a teacher's. They never reach the exported student.

All convolutions keep torch's default initialisation, as the published codes do.
"""

from torch import Tensor, nn


def align(student_channels: int, teacher_channels: int, *, bias: bool = True) -> nn.Module:
    """1x1 convolution to the teacher's channels, or nothing when the counts agree already."""
    if student_channels == teacher_channels:
        return nn.Identity()
    return nn.Conv2d(student_channels, teacher_channels, kernel_size=1, bias=bias)


def plain_generator(channels: int) -> nn.Sequential:
    """conv3x3 -> ReLU -> conv3x3 (MGD, GDD, Af-DCD). 18 C^2 weights: 75.5 million for C = 2048."""
    return nn.Sequential(_conv3(channels), nn.ReLU(), _conv3(channels))


class EnhancedGenerator(nn.Module):
    """Mean of a one-layer and a two-layer path that share their first layer (Af-DCD). 36 C^2 weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv3(channels)
        self.second = _conv3(channels)
        self.shallow = _conv3(channels)
        self.deep = _conv3(channels)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        once = self.first(map_BCHW).relu()
        twice = self.second(once).relu()
        mean: Tensor = (self.shallow(once) + self.deep(twice)) / 2
        return mean


def _conv3(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel_size=3, padding=1)
