"""CL-ILR, for which no published vectors are stored, against its formula written out in Python."""

import math

import pytest
from term_inputs import build_term, classified, vectors

BRANCHES, CLASSES, LABELS, T = 3, 4, [0, 3, 1], 3.0


def shares(scores: list[float], temperature: float) -> list[float]:
    parts = [math.exp(score / temperature) for score in scores]
    return [part / sum(parts) for part in parts]


def test_each_branch_of_cl_ilr_learns_from_its_labels_and_slowly_from_the_mean_of_the_others() -> None:
    epoch, length, alpha = 20, 80, 2.0
    logits = vectors({f"peer{i}.logits": CLASSES for i in range(BRANCHES)}, rows=len(LABELS))
    inputs = classified(logits, labels=LABELS, epoch=epoch)
    term = build_term(f"cl-ilr(branches={BRANCHES},T={T},alpha={alpha},length={length})", inputs)
    scores = [logits[f"peer{i}.logits"].tolist() for i in range(BRANCHES)]
    hard, soft = 0.0, 0.0
    for row, label in enumerate(LABELS):
        for branch in range(BRANCHES):
            others = [scores[j][row] for j in range(BRANCHES) if j != branch]
            target = shares([sum(values) / len(others) for values in zip(*others, strict=True)], T)
            answer = shares(scores[branch][row], T)
            hard -= math.log(shares(scores[branch][row], 1.0)[label])
            soft += sum((p + 1e-7) * math.log((p + 1e-7) / q) for p, q in zip(target, answer, strict=True))
    value = term(inputs)
    assert value["ce"].value.item() == pytest.approx(hard / len(LABELS), rel=1e-12)
    assert value["branches"].value.item() == pytest.approx(T**2 * soft / len(LABELS), rel=1e-12)
    grown = alpha * math.exp(-5 * (1 - epoch / length) ** 2)
    assert (value["ce"].weight, value["branches"].weight) == (1.0, pytest.approx(grown))
