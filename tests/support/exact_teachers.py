"""Teachers of one module whose answer is known without running them.

'exact_teachers:make_reader' answers the normalised pixels, 'exact_teachers:make_rounder' the same through a
convolution that a lower precision rounds, 'exact_teachers:make_restless' what batch statistics and dropout
make of them, 'exact_teachers:make_loud' a million times as much, each at stride 1.
"""

import torch
from torch import Tensor, nn

NORM_MEAN, NORM_VAR = (0.3, -0.2, 0.1), (2.0, 0.5, 1.5)
NORM_WEIGHT, NORM_BIAS, NORM_EPS = (1.5, 1.0, 0.5), (0.25, 0.0, -0.5), 1e-5
MEAN, STD = (0.25, 0.5, 0.75), (0.2, 0.3, 0.4)  # of pixels / 255, unlike ImageNet's


class OneModule(nn.Module):
    """(B, 3, H, W) through one module, which is every tap."""

    pad_multiple = 8
    pixel_mean, pixel_std = MEAN, STD

    def __init__(self, read: nn.Module) -> None:
        super().__init__()
        self.read = read

    def forward(self, images_BCHW: Tensor) -> Tensor:
        answer: Tensor = self.read(images_BCHW)
        return answer


def make_reader(num_classes: int | None) -> tuple[nn.Module, dict[str, str]]:
    """Taps 'pixels' and 'again': the normalised pixels, with no arithmetic that could depend on a batch."""
    del num_classes
    return OneModule(nn.Identity()), {"pixels": "read", "again": "read"}


def make_rounder(num_classes: int | None) -> tuple[nn.Module, dict[str, str]]:
    """Taps 'pixels' and 'again': a convolution by one, which autocast computes in its own type."""
    del num_classes
    convolution = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        convolution.weight.copy_(torch.eye(3)[:, :, None, None])
    return OneModule(convolution), {"pixels": "read", "again": "read"}


def make_loud(num_classes: int | None) -> tuple[nn.Module, dict[str, str]]:
    """Tap 'logits': the normalised pixels a million times, which fp16 cannot hold."""
    del num_classes
    convolution = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        convolution.weight.copy_(1e6 * torch.eye(3)[:, :, None, None])
    return OneModule(convolution), {"logits": "read"}


def make_restless(num_classes: int | None) -> tuple[nn.Module, dict[str, str]]:
    """Tap 'normed': batch normalisation with statistics of its own, then dropout of half the numbers."""
    del num_classes
    norm = nn.BatchNorm2d(3, eps=NORM_EPS)
    with torch.no_grad():
        for tensor, numbers in (
            (norm.running_mean, NORM_MEAN), (norm.running_var, NORM_VAR),
            (norm.weight, NORM_WEIGHT), (norm.bias, NORM_BIAS),
        ):  # fmt: skip
            assert tensor is not None
            tensor.copy_(torch.tensor(numbers))
    return OneModule(nn.Sequential(norm, nn.Dropout(0.5))), {"normed": "read"}
