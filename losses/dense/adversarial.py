"""Losses of a critic D that tells the teacher's score maps from the student's, as pure functions.

    student's side      - mean D(z_S), for both kinds
    critic, wgan-gp     - mean D(z_T) + mean D(z_S), and the gradient penalty
    critic, hinge       mean relu(1 - D(z_T)) + mean relu(1 + D(z_S))
    gradient penalty    10 * mean over images of (|| d sum D(x) / dx || - 1)^2 at x = a z_T + (1 - a) z_S,
                        a ~ U[0, 1) per image
Liu et al. 2019, https://arxiv.org/abs/1903.04197; structure_knowledge_distillation ce208e1
`utils/criterion.py`, branch cvpr_19 `network/discriminator.py`, winycg/CIRKD dab64db.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Adversarial = Literal["wgan-gp", "hinge"]
PENALTY = 10.0
# Of ImageNet: what the students of this project are given to see.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


def fooling_loss(scores_of_student: Tensor) -> Tensor:
    """What the student minimises."""
    return -scores_of_student.mean()


def telling_loss(scores_of_teacher: Tensor, scores_of_student: Tensor, *, adversarial: Adversarial) -> Tensor:
    """What the critic minimises, without the gradient penalty."""
    if adversarial == "wgan-gp":
        return scores_of_student.mean() - scores_of_teacher.mean()
    return (1 - scores_of_teacher).relu().mean() + (1 + scores_of_student).relu().mean()


def between(teacher_BCHW: Tensor, student_BCHW: Tensor, share_B: Tensor) -> Tensor:
    """Where the penalty looks: teacher's and student's scores mixed, the teacher's with the given shares."""
    share_B111 = share_B.to(teacher_BCHW.dtype)[:, None, None, None]
    return (share_B111 * teacher_BCHW + (1 - share_B111) * student_BCHW).detach()


def gradient_penalty(critic: Callable[[Tensor], Tensor], seen_BCHW: Tensor) -> Tensor:
    """The penalty above at what the critic is shown. Can be differentiated for the critic's weights."""
    at = seen_BCHW.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(at).sum(), at, create_graph=True)
    length_B: Tensor = slope.flatten(1).norm(dim=1)
    return PENALTY * (length_B - 1).square().mean()


def pixels(images_BHWC: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W), normalised as the students' input is."""
    mean, std = (torch.tensor(values, device=images_BHWC.device) for values in (PIXEL_MEAN, PIXEL_STD))
    return ((images_BHWC.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def with_image(image_B3HW: Tensor, logits_BKhw: Tensor) -> Tensor:
    """(B, 3 + K, h, w): the image at the logits' size, bilinear with aligned corners; softmax(logits)."""
    resized = functional.interpolate(
        image_B3HW, size=logits_BKhw.shape[-2:], mode="bilinear", align_corners=True
    )
    return torch.cat((resized.to(logits_BKhw.dtype), logits_BKhw.softmax(1)), dim=1)
