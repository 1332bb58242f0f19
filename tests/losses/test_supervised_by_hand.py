"""The supervised loss of classification, its formula written out: smoothing, mixed images, the mean."""

import math

import pytest
import torch
from term_inputs import build_set, classified, vectors

from kdcache.losses.step_inputs import Mixed

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
