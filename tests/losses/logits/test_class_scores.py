"""The losses on class scores: slopes, plain rows, weights of the task loss, edges and errors."""

import math

import pytest
import torch
from bare_inputs import specs
from term_inputs import build_set, build_term, classified, slope_holds, vectors
from torch import Tensor

from kdcache.cache.spec import BadOption
from kdcache.cache.tasks.contract import Mixed
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import Facts
from kdcache.losses.logits.dkd import other_classes_kl, true_class_kl
from kdcache.losses.logits.label_smoothing import smoothed_ce
from kdcache.losses.logits.partial import class_relations, keep_top, keep_true
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs

ROWS, CLASSES = 4, 5
LABELS = [0, 3, 1, 4]
CLASSIFIER = torch.randn(CLASSES, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
FACTS = Facts(task="classification", num_classes=CLASSES, classifier_KD=CLASSIFIER)
EVERY = [
    "kd",
    "kd(form=okddip,hard=0.5)",
    "dkd",
    "nkd(T=3,gamma=3.5)",
    "dist",
    "tfkd-self",
    "tfkd-reg",
    "label-smoothing",
    "kd-topk(k=2)",
    "kd-pt",
    "kd-sim",
]


def scores(rows: int = ROWS, classes: int = CLASSES, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    return tuple(vectors({"logits": classes}, rows=rows, seed=s)["logits"] for s in (seed, seed + 1))  # type: ignore[return-value]


def step(rows: int = ROWS, classes: int = CLASSES) -> StepInputs:
    student, teacher = scores(rows, classes)
    return classified({"logits": student}, {"logits": teacher}, labels=LABELS[:rows])


@pytest.mark.parametrize("expression", EVERY)
def test_the_gradient_is_the_slope(expression: str) -> None:
    inputs = step()
    assert slope_holds(build_set(expression, inputs, facts=FACTS), inputs)


@pytest.mark.parametrize("expression", EVERY)
def test_one_image_gives_numbers(expression: str) -> None:
    inputs = step(rows=1)
    total = build_set(expression, inputs, facts=FACTS)(inputs).total
    total.backward()
    gradient = inputs.student["logits"].grad
    assert total.isfinite() and gradient is not None and gradient.isfinite().all()


@pytest.mark.parametrize("expression", EVERY)
def test_scores_beyond_half_precision_still_give_numbers(expression: str) -> None:
    student, teacher = (300 * z.detach().float() for z in scores())
    student.requires_grad_()
    inputs = classified({"logits": student}, {"logits": teacher}, labels=LABELS)
    total = build_set(expression, inputs, facts=FACTS).float()(inputs).total
    total.backward()
    assert total.isfinite() and student.grad is not None and student.grad.isfinite().all()


@pytest.mark.parametrize("expression", EVERY)
def test_rows_of_quarter_turns_do_not_count(expression: str) -> None:
    student, teacher = scores(rows=8)
    turned = classified(
        {"logits": student}, {"logits": teacher}, labels=[2, 9, 9, 9, 1, 9, 9, 9], rows_per_sample=4
    )
    plain = classified({"logits": student[::4]}, {"logits": teacher[::4]}, labels=[2, 1])
    losses = build_set(expression, plain, facts=FACTS)
    assert torch.equal(losses(turned).total, losses(plain).total)


@pytest.mark.parametrize(
    ("expression", "weight"),
    [
        ("kd", 0.1),
        ("dkd", 1),
        ("nkd", 1),
        ("dist", 1),
        ("tfkd-self(alpha=0.9)", 0.1),
        ("tfkd-reg(alpha=0.1)", 0.9),
        ("kd-topk", 0.1),
        ("kd-pt", 0.1),
        ("kd-sim", 0.1),
    ],
)
def test_the_task_loss_has_the_weight_that_the_method_publishes(expression: str, weight: float) -> None:
    plan = parse_losses(expression, preset=None, task="classification")
    assert plan.terms[0].name == "task" and plan.terms[0].weight == pytest.approx(weight)


@pytest.mark.parametrize("expression", ["label-smoothing", "kd(form=okddip)"])
def test_a_method_with_its_own_cross_entropy_takes_the_place_of_the_task_loss(expression: str) -> None:
    plan = parse_losses(expression, preset=None, task="classification")
    assert [term.name for term in plan.terms] == [expression.partition("(")[0]]


def test_dkd_grows_over_twenty_epochs() -> None:
    inputs = step()
    losses = build_set("dkd", inputs)
    shares = [losses.weight_at("dkd", epoch) for epoch in (0, 9, 19, 200)]
    assert shares == pytest.approx([0.05, 0.5, 1, 1])


def test_dkd_halves_add_up_to_the_whole_divergence() -> None:
    """KL = TCKD + (1 - p_y) NCKD, image by image (Zhao et al., equation 6)."""
    student, teacher = (z.detach() for z in scores(rows=1))
    labels = torch.tensor([3])
    whole = (teacher.softmax(1) * (teacher.log_softmax(1) - student.log_softmax(1))).sum()
    true = true_class_kl(student, teacher, labels, temperature=1.0)
    others = other_classes_kl(student, teacher, labels, temperature=1.0)
    assert torch.allclose(true + (1 - teacher.softmax(1)[0, 3]) * others, whole)


def test_the_classic_form_scales_by_T_and_reads_labels_at_T() -> None:
    inputs = step()
    values = build_term("kd(form=okddip,T=3)", inputs)(inputs)
    student, teacher = inputs.student["logits"], inputs.teacher["logits"]
    kl = (teacher / 3).softmax(1) * ((teacher / 3).log_softmax(1) - (student / 3).log_softmax(1))
    assert torch.allclose(values["kl"].value, 3 * kl.sum() / ROWS)
    expected = torch.nn.functional.cross_entropy(student / 3, inputs.truth)
    assert torch.allclose(values["ce"].value, expected)


def test_smoothed_labels_of_a_mixed_image_are_shared() -> None:
    inputs = step()
    other, share = torch.tensor([1, 1, 2, 2]), torch.tensor([0.5, 0.75, 1.0, 0.6])
    loss = build_term("label-smoothing", inputs)(inputs._replace(mixed=Mixed(other, share)))
    student = inputs.student["logits"]
    own, second = (smoothed_ce(student, y, alpha=0.1) for y in (inputs.truth, other))
    assert torch.allclose(loss, (share * own + (1 - share) * second).mean())


def test_partial_targets_keep_their_part_and_sum_to_one() -> None:
    p = torch.tensor([[0.5, 0.3, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]])
    top = keep_top(p, 1)
    assert torch.allclose(top, torch.tensor([[0.5, 0.5 / 3, 0.5 / 3, 0.5 / 3], [0.2, 0.2, 0.2, 0.4]]))
    assert torch.allclose(keep_top(p, 4), p) and torch.allclose(keep_top(p, 3), p)
    true = keep_true(p, torch.tensor([1, 0]))
    assert torch.allclose(true, torch.tensor([[0.7 / 3, 0.3, 0.7 / 3, 0.7 / 3], [0.1, 0.3, 0.3, 0.3]]))


def test_class_relations_rank_classes_by_the_angle_of_their_weights() -> None:
    weights = torch.tensor([[1.0, 0.0], [2.0, 2.0], [-3.0, 0.0]])
    relations = class_relations(weights, power=0.5, temperature=0.3)
    expected = torch.tensor([1.0, math.sqrt(0.5) ** 0.5, -1.0]).div(0.3).softmax(0)
    assert torch.allclose(relations[0], expected)
    assert torch.allclose(relations.sum(1), torch.ones(3))


def refusal(expression: str, inputs: StepInputs, facts: Facts = FACTS) -> str:
    with pytest.raises(BadOption) as error:
        build_set(expression, inputs, facts=facts)
    return str(error.value)


def test_kd_sim_without_a_classifier_says_where_one_comes_from() -> None:
    text = refusal("kd-sim", step(), Facts())
    assert "the weight of the teacher's classifier is not known" in text
    assert "loss term 'kd-sim'" in text
    assert "train from a cache whose teacher ends in a linear layer" in text


def test_kd_sim_refuses_a_classifier_of_other_classes() -> None:
    text = refusal("kd-sim", step(classes=3))
    assert "classifier has 5 classes, the student 3" in text
    assert "train teacher and student on the same classes" in text


def test_kd_topk_refuses_more_classes_than_there_are() -> None:
    text = refusal("kd-topk(k=6)", step())
    assert "k=6 of 5 classes" in text and "loss term 'kd-topk'" in text and "kd-topk(k=4)" in text


@pytest.mark.parametrize("name", ["dkd", "nkd", "tfkd-reg", "label-smoothing", "kd-pt"])
def test_one_class_has_no_others(name: str) -> None:
    text = refusal(name, step(classes=1))
    assert "the logits have 1 class" in text and f"loss term '{name}'" in text
    assert "at least two classes" in text


def test_the_classic_form_is_for_images_of_one_class() -> None:
    with pytest.raises(BadOption, match="form=okddip is published for classification") as error:
        maps = {"logits": torch.zeros(1, 3, 2, 2)}
        plan = parse_losses("kd(form=okddip)", preset=None, task=SEGMENTATION)
        plan.build(student=specs(maps), teacher=specs(maps))
    assert "kd(form=cirkd)" in str(error.value)


@pytest.mark.parametrize("name", ["dkd", "nkd", "tfkd-self", "kd-topk", "dml", "okddip", "byot", "dafl"])
def test_a_method_for_classification_says_so_on_segmentation(name: str) -> None:
    with pytest.raises(BadOption, match=f"'{name}' is a method for classification, and this is segmentation"):
        parse_losses(name, preset=None, task="segmentation")
