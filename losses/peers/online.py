"""What networks that learn from each other share: their stacked answers, targets among them, one divergence.

Shapes: M networks or branches, B images, K classes. Every T divides the scores before a softmax.
DefangChen/OKDDip-AAAI2020 c6a05de, https://arxiv.org/abs/1912.00350.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.options import Range
from kdcache.losses.schedules import TermSchedule
from kdcache.losses.step_inputs import StepInputs, plain_rows
from kdcache.losses.supervised.classification import classification_ce

Several = Annotated[int, Range(2)]
Divergence = Literal["KL", "CE"]
FLOOR = 1e-7  # added to every target probability, so that its logarithm is finite


def peer_taps(count: int, *kinds: str) -> tuple[str, ...]:
    """('peer0.logits', 'peer1.logits', ...), then the same of the next kind."""
    return tuple(f"peer{i}.{kind}" for kind in kinds for i in range(count))


def stacked(inputs: StepInputs, count: int, kind: str) -> Tensor:
    """(M, B, ...): what the networks answered for the unturned images."""
    return torch.stack([plain_rows(inputs, inputs.student[tap]) for tap in peer_taps(count, kind)])


@in_float32
def online_divergence(
    student_BK: Tensor, target_BK: Tensor, *, temperature: float, kind: Divergence = "KL"
) -> Tensor:
    """T^2 * mean over images of KL(g || softmax(s / T)), g = softmax(t / T) + 1e-7; or the cross-entropy of
    softmax(t / T). The gradient reaches `target_BK` too, as in the published code.
    """
    log_student_BK = functional.log_softmax(student_BK / temperature, dim=1)
    target_BK = (target_BK / temperature).softmax(1)
    if kind == "CE":
        return -(temperature**2) * (target_BK * log_student_BK).sum(1).mean()
    target_BK = target_BK + FLOOR
    return temperature**2 * (target_BK * (target_BK.log() - log_student_BK)).sum(1).mean()


def summed_divergence(
    student_MBK: Tensor, target_MBK: Tensor, *, temperature: float, kind: Divergence = "KL"
) -> Tensor:
    """The sum over the networks of `online_divergence`."""
    pairs = zip(student_MBK, target_MBK, strict=True)
    return torch.stack([online_divergence(s, t, temperature=temperature, kind=kind) for s, t in pairs]).sum()


def mean_of_others(logits_MBK: Tensor) -> Tensor:
    """(M, B, K): for every network the mean logits of the other M - 1."""
    return (logits_MBK.sum(0) - logits_MBK) / (logits_MBK.shape[0] - 1)


def summed_ce(logits_MBK: Tensor, inputs: StepInputs, *, smoothing: float = 0.0) -> Tensor:
    """The sum over the networks of their cross-entropies; `inputs` give the labels."""
    labels_B = plain_rows(inputs, inputs.truth)
    losses = [classification_ce(z_BK, labels_B, inputs.mixed, smoothing=smoothing) for z_BK in logits_MBK]
    return torch.stack(losses).sum()


def consistency(alpha: float, length: float, epoch: int) -> float:
    """alpha * exp(-5 (1 - e / length)^2), alpha from epoch `length` on; length 0 = alpha from the start."""
    return alpha * TermSchedule(rampup=length).factor(epoch)
