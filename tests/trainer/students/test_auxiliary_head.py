"""--aux: which students have the auxiliary head, and that its loss trains."""

import pytest
import torch

from kdcache.cache.networks.network import Network
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs
from kdcache.trainer.assemble import student_taps
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.students.student import build_student, has_aux


def student(name: str, aux: bool | None = None) -> Network:
    config = TrainConfig(run="r", student=name, weights="none", aux=aux)
    return build_student(config, num_classes=3, output_stride=8, task=SEGMENTATION)


@pytest.fixture(scope="module")
def r18() -> Network:
    return student("r18")


@pytest.mark.parametrize("name", ["r18", "r34", "r50", "r101", "deeplabv3:resnet101", "pspnet:resnet18"])
def test_resnets_have_the_auxiliary_head_unless_it_is_refused(name: str) -> None:
    assert has_aux(TrainConfig(run="r", student=name))
    assert not has_aux(TrainConfig(run="r", student=name, aux=False))


@pytest.mark.parametrize("name", ["mbv2", "deeplabv3:mobilenetv2_100", "my_nets:make"])
def test_other_students_have_it_only_when_asked(name: str) -> None:
    assert not has_aux(TrainConfig(run="r", student=name))
    assert has_aux(TrainConfig(run="r", student=name, aux=True))


def test_a_resnet_student_is_built_with_the_head_and_without_it_when_refused(r18: Network) -> None:
    assert "aux" in r18.taps
    assert "aux" not in student("r18", aux=False).taps


def test_a_classifier_has_no_auxiliary_head() -> None:
    config = TrainConfig(run="r", student="r18")
    network = build_student(config, num_classes=3, output_stride=None, task=CLASSIFICATION)
    assert "aux" not in network.taps


def test_the_heads_cross_entropy_is_in_the_loss_and_reaches_its_weights(r18: Network) -> None:
    plan = parse_losses("none", preset=None, task=SEGMENTATION)
    taps = student_taps(plan, r18)
    losses = plan.build(student=r18.tap_specs(taps, 32, 32), teacher={})
    maps = r18.eval()(torch.zeros(1, 32, 32, 3, dtype=torch.uint8), taps)
    labels = torch.arange(32 * 32).reshape(1, 32, 32) % 3
    inputs = StepInputs(maps, {}, labels, torch.Generator(), step=0, epoch=0)
    values = losses(inputs)
    entropies = [
        torch.nn.functional.cross_entropy(
            torch.nn.functional.interpolate(maps[tap], size=(32, 32), mode="bilinear", align_corners=True),
            labels,
        )
        for tap in ("logits", "aux")
    ]
    torch.testing.assert_close(values.total, entropies[0] + 0.4 * entropies[1])
    values.total.backward()
    assert r18.model.aux_head is not None
    assert all(p.grad is not None and p.grad.any() for p in r18.model.aux_head.parameters())
