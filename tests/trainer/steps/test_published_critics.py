"""The critics of SKDS, IFVD and CIRKD: whose map they judge first, how fast they learn, whose batch counts.

The expressions of IFVD's and CIRKD's own codes are read from docs/methods.md, where users copy them.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from bare_inputs import specs, step_inputs
from torch import Tensor, nn

from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import Facts
from kdcache.losses.dense.critic import BatchScale
from kdcache.losses.loss_set import LossSet
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs
from kdcache.trainer.steps.rivals import Rivals

DOCUMENT = (Path(__file__).parents[3] / "docs" / "methods.md").read_text()


def documented(start: str) -> str:
    expressions = re.findall(rf"`({re.escape(start)}[^`]*)`", DOCUMENT)
    assert len(expressions) == 1, (
        f"docs/methods.md has {len(expressions)} expressions that start with {start}"
    )
    return str(expressions[0])


SKDS, CIRKD = "skds-holistic", "ifvd"
IFVDS_OWN = documented("ifvd(weight=200)+")
SKDS_IN_CIRKD = documented("skds-pair(form=cirkd)+")
STEPS, LABEL = 10, "skds-holistic"


class OneRank:
    num_processes = 1


def drawn(seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "logits": torch.randn(2, 3, 64, 64, generator=draw),
        "neck": torch.randn(2, 4, 8, 8, generator=draw),
    }


def built(loss: str) -> tuple[LossSet, StepInputs]:
    torch.manual_seed(0)
    inputs = step_inputs(drawn(1), drawn(2), torch.zeros(2, 64, 64, dtype=torch.int64))
    plan = parse_losses(loss, preset=None, task=SEGMENTATION)
    losses = plan.build(
        student=specs(inputs.student), teacher=specs(inputs.teacher), facts=Facts(num_classes=3)
    )
    return losses, inputs


def critic_of(losses: LossSet) -> Any:
    return losses.terms[LABEL].critic


@pytest.mark.parametrize(
    ("loss", "order"),
    [
        (SKDS, ["student", "teacher", "student", "between"]),
        ("skds", ["student", "teacher", "student", "between"]),
        (IFVDS_OWN, ["student", "student", "teacher", "between"]),
        (CIRKD, ["student", "student", "teacher"]),
        (SKDS_IN_CIRKD, ["student", "student", "teacher"]),
    ],
)
def test_the_critic_judges_the_maps_in_the_order_of_the_published_code(loss: str, order: list[str]) -> None:
    """The student's own loss comes first, then the critic's step."""
    losses, inputs = built(loss)
    judged: list[str] = []

    def watch(_critic: nn.Module, shown: tuple[Tensor]) -> None:
        sides = {"student": inputs.student["logits"], "teacher": inputs.teacher["logits"]}
        judged.append(
            next((n for n, map_BCHW in sides.items() if torch.equal(shown[0], map_BCHW)), "between")
        )

    critic_of(losses).register_forward_pre_hook(watch)
    losses(inputs)
    losses.terms[LABEL].rival_loss(inputs)  # type: ignore[operator]
    assert judged == order


def falling(step: int) -> float:
    return float((1 - step / STEPS) ** 0.9)


@pytest.mark.parametrize(
    ("loss", "lr", "shares"),
    [
        (CIRKD, 4e-4, {0: 1.0, 4: 1.0, 9: 1.0}),
        (SKDS_IN_CIRKD, 4e-4, {0: 1.0, 4: 1.0, 9: 1.0}),
        (IFVDS_OWN, 4e-4, {step: falling(step) for step in (0, 4, 9)}),
        ("skds-holistic(optimizer=adam,lr=0.01)", 0.01, {step: falling(step) for step in (0, 4, 9)}),
    ],
)
def test_adams_critic_moves_by_the_published_rate_in_each_step(
    loss: str, lr: float, shares: dict[int, float]
) -> None:
    """Under a gradient that stays 1 Adam moves by exactly its rate."""
    losses, _ = built(loss)
    rivals, moved = Rivals(losses.rivals(), losses, steps=STEPS), critic_of(losses).last.bias
    for step, share in shares.items():
        moved.data.zero_()
        moved.grad = torch.ones_like(moved)
        rivals.step(step, OneRank())  # type: ignore[arg-type]
        assert -moved.item() == pytest.approx(lr * share, rel=1e-4), f"step {step}"


def test_skds_critic_moves_by_momentum_and_decay_at_a_rate_that_falls() -> None:
    losses, _ = built(SKDS)
    rivals, moved = Rivals(losses.rivals(), losses, steps=STEPS), critic_of(losses).last.bias
    moved.data.fill_(2.0)
    place, velocity = 2.0, 0.0
    for step in (0, 4, 9):
        moved.grad = torch.full_like(moved, 100.0)
        rivals.step(step, OneRank())  # type: ignore[arg-type]
        velocity = 0.9 * velocity + 100.0 + 5e-4 * place
        place -= 4e-4 * falling(step) * velocity
        assert moved.item() == pytest.approx(place, rel=1e-6)
    decayed = critic_of(losses).norm.weight
    decayed.data.fill_(1000.0)
    decayed.grad = torch.zeros_like(decayed)
    rivals.step(0, OneRank())  # type: ignore[arg-type]
    assert decayed[0].item() == pytest.approx(1000 - 4e-4 * 5e-4 * 1000, abs=1e-4)


@pytest.mark.parametrize(
    ("loss", "layer"),
    [
        (SKDS, BatchScale),
        (IFVDS_OWN, BatchScale),
        (CIRKD, nn.SyncBatchNorm),
        (SKDS_IN_CIRKD, nn.SyncBatchNorm),
    ],
)
def test_only_cirkds_critic_normalises_over_the_ranks_of_a_synchronised_run(
    loss: str, layer: type[nn.Module]
) -> None:
    losses = nn.SyncBatchNorm.convert_sync_batchnorm(built(loss)[0])
    assert type(critic_of(losses).norm) is layer


def test_a_critic_over_all_ranks_says_on_one_what_a_critic_of_one_says() -> None:
    values = []
    for statistics in ("rank", "all"):
        losses, inputs = built(f"skds-holistic(adversarial=hinge,statistics={statistics})")
        critic = critic_of(losses)
        values.append([critic.train(training)(inputs.student["logits"]) for training in (True, False)])
        assert not any("running" in name for name, _ in critic.named_buffers())
    for own, spanning in zip(*values, strict=True):
        torch.testing.assert_close(own, spanning)
