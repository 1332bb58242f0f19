"""Losses on class scores without stored vectors, against formulas written out in Python."""

import math
from collections.abc import Callable

import pytest
import torch
from term_inputs import build_term, classified, vectors

from kdcache.losses.contract import Facts, LossTerm, Weighted
from kdcache.losses.step_inputs import StepInputs

LABELS, CLASSES, T = [0, 3, 1, 4], 5, 3.0
CLASSIFIER = torch.randn(CLASSES, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
FACTS = Facts(task="classification", num_classes=CLASSES, classifier_KD=CLASSIFIER)


def step() -> StepInputs:
    student, teacher = (vectors({"logits": CLASSES}, rows=4, seed=seed) for seed in (0, 1))
    return classified(student, {"logits": 2 * teacher["logits"]}, labels=LABELS)


def shares(scores: list[float], temperature: float) -> list[float]:
    parts = [math.exp(score / temperature) for score in scores]
    return [part / sum(parts) for part in parts]


def rows(inputs: StepInputs) -> list[tuple[int, list[float], list[float]]]:
    """Label, student's scores and teacher's scores, image by image."""
    student, teacher = (side["logits"].tolist() for side in (inputs.student, inputs.teacher))
    return list(zip(LABELS, student, teacher, strict=True))


def divergence(target: list[float], answer: list[float]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(target, answer, strict=True))


def target_of_topk(label: int, scores: list[float]) -> list[float]:
    """The two largest of the five as they are, a third of the rest for each other class."""
    told = shares(scores, T)
    top = sorted(range(CLASSES), key=lambda k: -told[k])[:2]
    rest = (1 - sum(told[k] for k in top)) / 3
    return [told[k] if k in top else rest for k in range(CLASSES)]


def target_of_difficulty(label: int, scores: list[float]) -> list[float]:
    told = shares(scores, T)[label]
    return [told if k == label else (1 - told) / 4 for k in range(CLASSES)]


def target_of_similarity(label: int, scores: list[float]) -> list[float]:
    """Cosines of the label's row of the classifier with every row, to the power 0.5, at temperature 0.2."""
    own = CLASSIFIER[label].tolist()
    cosines = []
    for other in CLASSIFIER.tolist():
        product = sum(a * b for a, b in zip(own, other, strict=True))
        cosines.append(product / math.hypot(*own) / math.hypot(*other))
    return shares([math.copysign(abs(cosine) ** 0.5, cosine) for cosine in cosines], 0.2)


@pytest.mark.parametrize(
    ("expression", "target"),
    [
        (f"kd-topk(k=2,T={T})", target_of_topk),
        (f"kd-pt(T={T})", target_of_difficulty),
        (f"kd-sim(power=0.5,b=0.2,T={T})", target_of_similarity),
    ],
)
def test_partial_knowledge_is_t_squared_times_the_divergence_from_its_target(
    expression: str, target: Callable[[int, list[float]], list[float]]
) -> None:
    inputs = step()
    wanted = [divergence(target(label, taught), shares(own, T)) for label, own, taught in rows(inputs)]
    value = build_term(expression, inputs, facts=FACTS)(inputs)
    assert value.item() == pytest.approx(T**2 * sum(wanted) / len(wanted), rel=1e-12)


def test_nkd_at_another_temperature_tempers_the_others_alone_and_weighs_them_with_t_squared() -> None:
    inputs = step()
    value = build_term(f"nkd(T={T},gamma=3.5)", inputs)(inputs)
    target, others = 0.0, 0.0
    for label, own, taught in rows(inputs):
        target -= shares(taught, 1.0)[label] * math.log(shares(own, 1.0)[label])
        told, said = (shares([s for k, s in enumerate(z) if k != label], T) for z in (taught, own))
        others -= T**2 * sum(p * math.log(q) for p, q in zip(told, said, strict=True))
    assert value["target"].value.item() == pytest.approx(target / 4, rel=1e-12)
    assert value["others"].value.item() == pytest.approx(others / 4, rel=1e-12)
    assert (value["target"].weight, value["others"].weight) == (1.0, 3.5)


def test_the_classic_form_of_kd_reads_labels_at_t_and_scales_the_divergence_by_t() -> None:
    inputs = step()
    term: LossTerm = build_term(f"kd(form=okddip,T={T},hard=0.25)", inputs)
    value: dict[str, Weighted] = term(inputs)
    hard = [-math.log(shares(own, T)[label]) for label, own, _ in rows(inputs)]
    soft = [divergence(shares(taught, T), shares(own, T)) for _, own, taught in rows(inputs)]
    assert value["ce"].value.item() == pytest.approx(sum(hard) / 4, rel=1e-12)
    assert value["kl"].value.item() == pytest.approx(T * sum(soft) / 4, rel=1e-12)
    assert (value["ce"].weight, value["kl"].weight) == (0.25, 1.0)


def test_the_true_class_of_dkd_is_set_against_all_others_where_both_sides_are_sure_of_it() -> None:
    inputs = step()
    for side in (inputs.student, inputs.teacher):
        for row, label in enumerate(LABELS):
            side["logits"].data[row, label] += 12.0  # p of 0.9 at T, so that 1 - p is the small one
    term: LossTerm = build_term(f"dkd(T={T})", inputs)
    value: dict[str, Weighted] = term(inputs)
    wanted = 0.0
    for label, own, taught in rows(inputs):
        told, said = shares(taught, T)[label], shares(own, T)[label]
        assert min(told, said) > 0.5
        wanted += T**2 * divergence([told, 1 - told], [said, 1 - said])
    assert value["tckd"].value.item() == pytest.approx(wanted / 4, rel=1e-9)


def test_the_virtual_teacher_of_tfkd_reg_gives_what_is_left_of_one_to_the_other_classes_alike() -> None:
    inputs, correct = step(), 0.4
    term: LossTerm = build_term(f"tfkd-reg(correct={correct},T=0.5,multiplier=1)", inputs)
    value: dict[str, Weighted] = term(inputs)
    wanted = 0.0
    for label, own, _ in rows(inputs):
        virtual = [correct if k == label else (1 - correct) / (CLASSES - 1) for k in range(CLASSES)]
        wanted += divergence(shares(virtual, 0.5), shares(own, 1.0))
    assert value["kl"].value.item() == pytest.approx(wanted / (4 * CLASSES), rel=1e-12)
