"""Data-free learning: the generator's shapes and defect, who learns from which sum, its limits."""

import math

import pytest
import torch
from bare_inputs import specs
from term_inputs import build_term, classified, vectors
from torch import Tensor, nn

from kdcache.cache.spec import BadOption
from kdcache.losses.contract import Facts
from kdcache.losses.peers.dafl import DataFree, Generator, activation_loss, balance_loss, one_hot_loss
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs

CLASSES, WIDTH = 4, 5
FACTS = Facts(task="classification", input_size=(8, 12))


def step(rows: int = 3) -> StepInputs:
    student = vectors({"logits": CLASSES}, rows=rows)
    teacher = vectors({"logits": CLASSES, "embedding": WIDTH}, rows=rows, seed=1)
    return classified(student, teacher, labels=[0] * rows)


def term(options: str = "latent=6", facts: Facts = FACTS) -> DataFree:
    loss = build_term(f"dafl({options})", step(), facts=facts)
    assert isinstance(loss, DataFree)
    return loss


def test_an_image_has_the_size_of_the_teachers_input_and_three_channels() -> None:
    for options, alike in (("latent=6", False), ("latent=6,grey=true", True)):
        module = term(options).float()
        latent = module.draw(5, torch.Generator().manual_seed(0))
        images = module.generator(latent)
        assert latent.shape == (5, 6) and images.shape == (5, 3, 8, 12)
        assert bool((images[:, 0] == images[:, 1]).all()) == alike


def test_latents_come_from_the_steps_generator_alone() -> None:
    module = term()
    first, second = (module.draw(3, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second)


def test_the_inner_normalisations_have_the_published_eps_and_the_outer_ones_the_usual() -> None:
    norms = [m for m in Generator(4, (8, 8)).modules() if isinstance(m, nn.BatchNorm2d)]
    assert [norm.eps for norm in norms] == [1e-5, 0.8, 0.8, 1e-5]
    assert [norm.affine for norm in norms] == [True, True, True, False]


def test_the_generator_has_the_published_layers() -> None:
    shapes = [tuple(p.shape) for p in Generator(100, (32, 32)).parameters() if p.ndim > 1]
    assert shapes == [(128 * 64, 100), (128, 128, 3, 3), (64, 128, 3, 3), (3, 64, 3, 3)]


class Teacher(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, WIDTH, 3)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.body(images).mean((2, 3))
        return self.head(embedding), embedding


def reached(module: nn.Module) -> list[bool]:
    return [p.grad is not None and bool(p.grad.any()) for p in module.parameters()]


def test_each_sum_reaches_its_own_network_alone() -> None:
    module = term().float()
    teacher, student = Teacher().requires_grad_(False), Teacher()
    images = module.generator(module.draw(4, torch.Generator().manual_seed(0)))
    logits, embedding = teacher(images)
    module.student_loss(logits, student(images.detach())[0]).backward()
    assert any(reached(student)) and not any(reached(module.generator))
    student.zero_grad()
    sum(part.value * part.weight for part in module.generator_loss(logits, embedding).values()).backward()
    assert any(reached(module.generator)) and not any(reached(student)) and not any(reached(teacher))


def test_even_classes_are_the_least_of_the_balance_and_cost_minus_log10_of_their_number() -> None:
    assert balance_loss(torch.zeros(3, 10)).item() == pytest.approx(-1)


def test_sure_answers_leave_numbers_in_value_and_gradient() -> None:
    logits = torch.tensor([[2000.0, 0.0, -2000.0]] * 2, requires_grad=True)
    value = balance_loss(logits) + one_hot_loss(logits)
    value.backward()
    assert value.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


def test_the_gradient_is_the_slope() -> None:
    inputs = step()
    module = term()
    teacher = inputs.teacher["logits"].requires_grad_()
    embedding = vectors({"f": WIDTH}, rows=3)["f"]
    for formula, argument in ((one_hot_loss, teacher), (balance_loss, teacher), (activation_loss, embedding)):
        assert torch.autograd.gradcheck(formula, (argument,), fast_mode=True)

    def student_part(logits: Tensor) -> Tensor:
        return module(inputs._replace(student={"logits": logits}))

    assert torch.autograd.gradcheck(student_part, (inputs.student["logits"],), fast_mode=True)


def test_the_generator_has_an_adam_of_its_own() -> None:
    module = term("latent=6,lr=0.02")
    rival = module.rival()
    assert rival == module.generator_optimizer
    assert (rival.module, rival.optimizer, rival.lr) == (module.generator, "adam", 0.02)


def test_the_plan_says_that_images_are_invented() -> None:
    plan = parse_losses("dafl", preset=None, task="classification")
    assert plan.step_form == "generator" and [t.name for t in plan.terms] == ["dafl"]
    assert [need.name for need in plan.needs] == ["logits", "embedding"]


@pytest.mark.parametrize("size", [(30, 32), (0, 0)])
def test_sizes_that_do_not_double_twice_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(BadOption, match=f"images of {size[0]} x {size[1]} pixels") as error:
        term(facts=FACTS._replace(input_size=size))
    assert "loss term 'dafl'" in str(error.value) and "divide by 4" in str(error.value)


def test_a_student_of_other_classes_is_refused() -> None:
    inputs = step()
    student = {"logits": torch.zeros(3, CLASSES + 1)}
    plan = parse_losses("dafl", preset=None, task="classification")
    with pytest.raises(BadOption, match="student tap 'logits' has 5 channels but the teacher's has 4"):
        plan.build(student=specs(student), teacher=specs(inputs.teacher), facts=FACTS)


def test_the_logarithm_is_the_published_one() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    mean = logits.softmax(1).mean(0)
    assert balance_loss(logits).item() == pytest.approx(sum(p * math.log10(p) for p in mean.tolist()))
