"""The supervised loss of classification: its formula written out, mixed images, quarter turns."""

import math

import pytest
import torch
from term_inputs import build_set, classified, vectors

from kdcache.cache.spec import TensorSpec
from kdcache.cache.tasks.contract import Mixed
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs
from kdcache.losses.supervised.classification import classification_ce

CLASSES, LABELS, SECOND, SHARES = 4, [0, 3, 1], [2, 2, 0], [0.5, 0.75, 1.0]


def entropy(scores: list[float], label: int, smoothing: float) -> float:
    """-sum p log softmax, p = smoothing / K everywhere and the rest on the label."""
    total = math.log(sum(math.exp(score) for score in scores))
    logs = [score - total for score in scores]
    return -(1 - smoothing) * logs[label] - smoothing / len(scores) * sum(logs)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_task_loss_is_the_mean_entropy_of_smoothed_labels_by_their_shares(
    smoothing: float, mixed: bool
) -> None:
    inputs = classified(vectors({"logits": CLASSES}, rows=3), labels=LABELS)
    if mixed:
        second = Mixed(torch.tensor(SECOND), torch.tensor(SHARES))
        inputs = inputs._replace(mixed=second)
    wanted = 0.0
    for scores, label, other, share in zip(
        inputs.student["logits"].tolist(), LABELS, SECOND, SHARES, strict=True
    ):
        own = entropy(scores, label, smoothing)
        wanted += share * own + (1 - share) * entropy(scores, other, smoothing) if mixed else own
    losses = build_set(f"task(smoothing={smoothing})", inputs)
    assert losses(inputs).total.item() == pytest.approx(wanted / 3, rel=1e-7)


def test_the_labels_of_a_mixed_image_count_by_their_shares() -> None:
    logits = torch.randn(2, 5, dtype=torch.float64)
    own, other, share = torch.tensor([1, 2]), torch.tensor([3, 2]), torch.tensor([0.75, 0.5])
    log_p = logits.log_softmax(1)
    expected = -(0.75 * log_p[0, 1] + 0.25 * log_p[0, 3] + log_p[1, 2]) / 2
    assert torch.allclose(classification_ce(logits, own, Mixed(other, share)), expected)


def test_only_the_plain_rows_of_quarter_turns_are_supervised() -> None:
    plan = parse_losses("none", preset=None, task=CLASSIFICATION)
    losses = plan.build(student={"logits": TensorSpec((3,), 0)}, teacher={})
    logits, labels = torch.randn(8, 3), torch.tensor([0] * 4 + [2] * 4)
    turned = StepInputs({"logits": logits}, {}, labels, torch.Generator(), 0, 0, rows_per_sample=4)
    plain = StepInputs({"logits": logits[::4]}, {}, labels[::4], torch.Generator(), 0, 0)
    assert losses(turned).total == losses(plain).total
