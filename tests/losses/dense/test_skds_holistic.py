"""The holistic term: who learns from what, the critic's two losses, the image beside the scores, limits."""

from typing import Any

import pytest
import torch
from bare_inputs import specs, step_inputs
from torch import Tensor

from kdcache.cache.spec import BadOption, TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import Maps
from kdcache.losses.dense.adversarial import between, gradient_penalty, pixels, telling_loss, with_image
from kdcache.losses.dense.skds_holistic import Holistic
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs

CLASSES, SIDE = 4, 8


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def term(**options: Any) -> Holistic:
    spec = {"logits": TensorSpec((SIDE, SIDE, CLASSES), 8)}
    torch.manual_seed(0)
    return Holistic(Maps(spec, spec), levels=1, **options)


def inputs(**more: Any) -> StepInputs:
    student = drawn(2, CLASSES, SIDE, SIDE, seed=1).requires_grad_()
    made = step_inputs({"logits": student}, {"logits": drawn(2, CLASSES, SIDE, SIDE, seed=2)}, **more)
    made.generator.manual_seed(7)
    return made


def test_the_student_s_loss_reaches_the_student_and_the_critic_s_own_does_not() -> None:
    loss_term, step = term(), inputs()
    (gradient,) = torch.autograd.grad(loss_term(step), step.student["logits"])
    assert gradient.count_nonzero() > 0
    loss = loss_term.rival_loss(step)
    loss.backward()
    assert step.student["logits"].grad is None
    assert all(
        p.grad is not None for p in loss_term.critic.parameters() if p is not loss_term.critic.last.bias
    )


def test_a_frozen_critic_still_passes_the_gradient_to_the_student() -> None:
    loss_term, step = term(), inputs()
    loss_term.critic.requires_grad_(False)
    (gradient,) = torch.autograd.grad(loss_term(step), step.student["logits"])
    assert gradient.count_nonzero() > 0


def test_a_critic_s_steps_tell_the_two_apart() -> None:
    loss_term, step = term(adversarial="hinge", lambda_d=1.0), inputs()
    rate, losses = 0.05, []
    for _ in range(12):
        loss = loss_term.rival_loss(step)
        losses.append(loss.item())
        for parameter, gradient in zip(
            loss_term.critic.parameters(),
            torch.autograd.grad(loss, list(loss_term.critic.parameters())),
            strict=True,
        ):
            parameter.data -= rate * gradient
    assert losses[-1] < losses[0] - 0.1


def test_the_critic_s_losses_are_those_of_the_papers() -> None:
    teacher, student = torch.tensor([0.5, 2.0]), torch.tensor([-3.0, 0.25])
    assert telling_loss(teacher, student, adversarial="wgan-gp").item() == pytest.approx(-1.375 - 1.25)
    assert telling_loss(teacher, student, adversarial="hinge").item() == pytest.approx(0.25 + 0.625)


def test_the_penalty_looks_between_the_two_maps_and_wants_a_slope_of_one() -> None:
    seen: list[Tensor] = []

    def linear(shown: Tensor) -> Tensor:
        seen.append(shown.detach())
        return (shown * 0.5).sum((1, 2, 3))

    teacher, student = torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    share = torch.tensor([0.25, 1.0])
    mixed = between(teacher, student, share)
    assert gradient_penalty(linear, mixed).item() == pytest.approx(0.0)  # length of four slopes of 0.5
    torch.testing.assert_close(seen[0][:, 0, 0, 0], share)
    steep = gradient_penalty(lambda shown: 2 * linear(shown), mixed)
    assert steep.item() == pytest.approx(10.0)


def test_shares_come_from_the_step_s_generator() -> None:
    loss_term = term()
    first, again = (loss_term.draw_shares(inputs()) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (2,)


def test_the_image_stands_beside_the_posteriors_and_the_critic_reads_it() -> None:
    image = drawn(2, 3, 16, 16, seed=3)
    seen = with_image(image, drawn(2, CLASSES, SIDE, SIDE, seed=1))
    assert seen.shape == (2, 3 + CLASSES, SIDE, SIDE)
    torch.testing.assert_close(seen[:, :3, 0, 0], image[..., 0, 0])  # aligned corners
    torch.testing.assert_close(seen[:, :3, -1, -1], image[..., -1, -1])
    torch.testing.assert_close(seen[:, 3:].sum(1), torch.ones(2, SIDE, SIDE))
    loss_term = term(condition="image")
    assert loss_term.critic.levels[0].weight.shape[1] == 3 + CLASSES
    state = {name: value.clone() for name, value in loss_term.state_dict().items()}
    values = []
    for shade in (0, 0, 255):
        loss_term.load_state_dict(state)
        images = torch.full((2, 64, 64, 3), shade, dtype=torch.uint8)
        values.append(loss_term(inputs(images_BHWC=images)).item())
    assert values[0] == values[1] != values[2]
    assert loss_term.rival_loss(inputs(images_BHWC=images)).isfinite()


def test_pixels_are_scaled_as_the_students_are() -> None:
    grey = torch.full((1, 2, 2, 3), 128, dtype=torch.uint8)
    expected = [(128 / 255 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225]
    torch.testing.assert_close(pixels(grey)[0, :, 0, 0], torch.tensor(expected))


def test_a_step_without_images_is_refused_where_the_critic_wants_them() -> None:
    with pytest.raises(BadOption) as caught:
        term(condition="image")(inputs())
    assert caught.value.fix == "skds-holistic(condition=none)"


def test_the_optimizers_are_the_published_ones() -> None:
    sgd, adam = term().rival(), term(optimizer="adam").rival()
    assert (sgd.optimizer, sgd.lr, sgd.momentum, sgd.weight_decay) == ("sgd", 4e-4, 0.9, 5e-4)
    assert sgd.poly_power == adam.poly_power == 0.9
    assert (adam.optimizer, adam.lr, adam.betas, adam.weight_decay) == ("adam", 4e-4, (0.9, 0.99), 0.0)


def test_a_penalty_with_a_batch_norm_over_all_ranks_is_refused() -> None:
    with pytest.raises(BadOption) as caught:
        term(statistics="all")
    assert caught.value.what == (
        "wgan-gp's penalty is differentiated twice, and a batch norm over all ranks can be only once"
    )
    assert caught.value.where == "loss term 'skds-holistic'"
    assert caught.value.fix == (
        "skds-holistic(statistics=rank), or skds-holistic(adversarial=hinge,statistics=all)"
    )


class Sloped(torch.nn.Module):
    """D(x) = a . x per image, with a length of a that is known."""

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, shown: Tensor) -> Tensor:
        return (shown * self.slope).sum((1, 2, 3))


@pytest.mark.parametrize("adversarial", ["wgan-gp", "hinge"])
def test_the_two_losses_of_a_critic_that_is_a_plane_are_those_written_down(adversarial: str) -> None:
    loss_term, step = term(adversarial=adversarial, lambda_d=0.25), inputs()
    slope = drawn(CLASSES, SIDE, SIDE, seed=5)
    slope *= 3 / slope.norm()
    loss_term.critic = Sloped(slope)  # type: ignore[assignment]
    says = {
        side: [float((image.double() * slope.double()).sum()) for image in maps["logits"].detach()]
        for side, maps in (("teacher", step.teacher), ("student", step.student))
    }
    real, fake = says["teacher"], says["student"]
    assert loss_term(step).item() == pytest.approx(-sum(fake) / 2, rel=1e-5)
    wanted = (sum(fake) - sum(real)) / 2 + 10 * (3 - 1) ** 2
    if adversarial == "hinge":
        wanted = sum(max(0.0, 1 - d) for d in real) / 2 + sum(max(0.0, 1 + d) for d in fake) / 2
    assert loss_term.rival_loss(step).item() == pytest.approx(0.25 * wanted, rel=1e-5)


def test_a_small_map_is_refused_with_the_smallest_crop_and_a_smaller_critic() -> None:
    spec = {"logits": TensorSpec((45, 60, 11), 8)}
    with pytest.raises(BadOption) as caught:
        Holistic(Maps(spec, spec))
    assert caught.value.what == "the critic of 4 levels needs sides of 64 cells and the logits are 45x60"
    assert caught.value.where == "loss term 'skds-holistic'"
    assert caught.value.fix == (
        "crops of 505x505 pixels or more, or skds-holistic(levels=3), or leave it out: skds(skds-holistic=0)"
    )
    tiny = {"logits": TensorSpec((7, 60, 11), 8)}
    with pytest.raises(BadOption, match="needs sides of 64 cells") as caught:
        Holistic(Maps(tiny, tiny))
    assert "levels" not in caught.value.fix


def test_in_a_plan_the_critic_is_a_rival_with_its_own_part_of_the_set() -> None:
    step = inputs(labels=torch.zeros(2, 64, 64, dtype=torch.int64))
    plan = parse_losses("skds-holistic(levels=1)", preset=None, task=SEGMENTATION)
    losses = plan.build(student=specs(step.student), teacher=specs(step.teacher))
    rivals = losses.rivals()
    assert list(rivals) == ["skds-holistic"]
    assert rivals["skds-holistic"].module is losses.terms["skds-holistic"].critic  # type: ignore[union-attr]
    values = losses(step)
    assert values.terms["skds-holistic"] == pytest.approx(0.1 * values.unweighted["skds-holistic"].item())
