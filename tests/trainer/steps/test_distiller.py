"""The student and its losses as one module: what it refuses."""

import pytest
import torch
from torch import Tensor, nn

from kdcache.cache.errors import BadOption
from kdcache.cache.spec import TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import Facts
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs
from kdcache.trainer.steps.step import Distiller

CLASSES = 3


class Pooling(nn.Module):
    """Normalises what it pooled to one cell, as DeepLabV3 does."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, CLASSES, 1)
        self.norm = nn.BatchNorm2d(CLASSES)

    def forward(self, images_BHWC: Tensor, taps: tuple[str, ...]) -> dict[str, Tensor]:
        logits = self.head(images_BHWC.permute(0, 3, 1, 2).float() / 255)
        return {"logits": logits + self.norm(logits.mean((2, 3), keepdim=True))}


class Broken(Pooling):
    def forward(self, images_BHWC: Tensor, taps: tuple[str, ...]) -> dict[str, Tensor]:
        raise ValueError("something else")


def distiller(student: nn.Module) -> Distiller:
    plan = parse_losses("none", preset=None, task=SEGMENTATION)
    specs = {"logits": TensorSpec((8, 8, CLASSES), 1)}
    losses = plan.build(student=specs, teacher={}, facts=Facts(num_classes=CLASSES))
    return Distiller(student, losses, ("logits",)).train()


def batch(rows: int) -> StepInputs:
    return StepInputs(
        student={},
        teacher={},
        truth=torch.zeros(rows, 8, 8, dtype=torch.int64),
        images_BHWC=torch.zeros(rows, 8, 8, 3, dtype=torch.uint8),
        generator=torch.Generator(),
        step=0,
        epoch=0,
        samples_B=torch.arange(rows),
    )


def test_one_image_is_not_enough_for_batch_statistics_of_one_cell() -> None:
    with pytest.raises(BadOption) as caught:
        distiller(Pooling())(batch(1))
    assert caught.value.what.startswith("batch normalisation of one value per channel: 1 image in a micro")
    assert caught.value.where == "--batch-size, which ranks and --accumulate divide"
    assert "raise --batch-size or lower --accumulate" in caught.value.fix
    assert torch.isfinite(distiller(Pooling())(batch(2)).total)


def test_another_error_of_a_students_own_keeps_its_traceback() -> None:
    with pytest.raises(ValueError, match="^something else$") as caught:
        distiller(Broken())(batch(2))
    assert not isinstance(caught.value, BadOption)
