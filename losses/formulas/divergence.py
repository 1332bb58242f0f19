"""Divergences and distances between maps: one function per formula, scalars out.

Shapes: B batch, C channels, K classes, H W cells. Teacher tensors carry no gradient. Softmaxes are taken in
log space.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from kdcache.losses.formulas.precision import in_float32

Form = Literal["cirkd", "skds", "ifvd"]


def kl(student: Tensor, teacher: Tensor, *, temperature: float, dim: int) -> Tensor:
    """Sum over `dim` of p_T (log p_T - log p_S), p = softmax(z / temperature) along `dim`.

    No T^2 and no reduction: the callers differ in both.
    """
    log_student = functional.log_softmax(student / temperature, dim=dim)
    log_teacher = functional.log_softmax(teacher / temperature, dim=dim)
    return (log_teacher.exp() * (log_teacher - log_student)).sum(dim)


@in_float32
def pixel_kl(
    student_BKHW: Tensor, teacher_BKHW: Tensor, *, temperature: float = 1.0, form: Form = "cirkd"
) -> Tensor:
    """Per-pixel KL of class posteriors, in the three published reductions.

    cirkd: T^2 / (B H W) * sum of KL (winycg/CIRKD dab64db `losses/kd.py`; also Af-DCD).
    skds:  1 / (H W) * sum over images and pixels of the cross-entropy -p_T log p_S, no T^2; same direction of
           the gradient as KL, grows with B (structure_knowledge_distillation ce208e1).
    ifvd:  1 / (B K H W) * sum of KL, no T^2 (YukangWang/IFVD 950a7a5).
    Pixels with an ignored label count too.
    """
    num_images, num_classes, height, width = student_BKHW.shape
    if form == "skds":
        posterior = functional.softmax(teacher_BKHW / temperature, dim=1)
        cross = -(posterior * functional.log_softmax(student_BKHW / temperature, dim=1))
        return cross.sum() / (height * width)
    summed = kl(student_BKHW, teacher_BKHW, temperature=temperature, dim=1).sum()
    num_pixels = num_images * height * width
    if form == "ifvd":
        return summed / (num_pixels * num_classes)
    return summed * temperature**2 / num_pixels


@in_float32
def channel_kl(
    student_BCHW: Tensor, teacher_BCHW: Tensor, *, temperature: float, num_channels: int | None = None
) -> Tensor:
    """T^2 / (B C) * sum over images and channels of KL of spatial softmaxes (C: `num_channels` if given).

    Shu et al. 2021, https://arxiv.org/abs/2011.13256; 0 for equal maps.
    """
    num_images, width = student_BCHW.shape[0], num_channels or student_BCHW.shape[1]
    summed = kl(student_BCHW.flatten(2), teacher_BCHW.flatten(2), temperature=temperature, dim=2).sum()
    return summed * temperature**2 / (num_images * width)


@in_float32
def channel_mean_square(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """1 / (B C) * sum of squared differences of the spatial means; no temperature (it cancels)."""
    return (student_BCHW.mean((2, 3)) - teacher_BCHW.mean((2, 3))).square().mean()


@in_float32
def summed_square(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """1 / B * sum over channels and cells of squared differences. About 10^7 for 2048 x 64 x 128: weights
    are ~1e-6.
    """
    return torch.sum((student_BCHW - teacher_BCHW).square()) / student_BCHW.shape[0]
