"""What the losses on class scores share: divergences of rows, the classes beside the true one.

Shapes: B images, K classes. Every T divides the scores before a softmax.
"""

import torch
from torch import Tensor
from torch.nn import functional

from kdcache.cache.spec import BadOption, TensorSpec
from kdcache.losses.contract import Maps, Refusal
from kdcache.losses.formulas.divergence import kl
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.shapes import check_same_channels

# Of dense detectors, by the reason that BCKD gives (Yang et al. 2023, https://arxiv.org/abs/2308.14286).
NO_SOFTMAX = Refusal(
    "its heads score every class by a sigmoid of its own, and a softmax over the classes, blind to what is "
    "added to all of them, is the inconsistency that bckd removes",
    "take bckd, which treats each class as a problem of its own: --loss bckd",
)


@in_float32
def mean_kl(student_BK: Tensor, teacher_BK: Tensor, *, temperature: float) -> Tensor:
    """Mean over images of KL(softmax(t / T) || softmax(s / T)). No T^2: the callers differ in it."""
    return kl(student_BK, teacher_BK, temperature=temperature, dim=1).mean()


@in_float32
def kl_to_target(student_BK: Tensor, target_BK: Tensor, *, temperature: float) -> Tensor:
    """Mean over images of KL(target || softmax(s / T)) for targets that are probabilities; 0 log 0 = 0."""
    log_student_BK = functional.log_softmax(student_BK / temperature, dim=1)
    entropy_BK: Tensor = torch.special.xlogy(target_BK, target_BK)
    return (entropy_BK - target_BK * log_student_BK).sum(1).mean()


def of_true_class(values_BK: Tensor, labels_B: Tensor) -> Tensor:
    """(B,): the entry of each row's class."""
    return values_BK.gather(1, labels_B[:, None])[:, 0]


def of_other_classes(values_BK: Tensor, labels_B: Tensor) -> Tensor:
    """(B, K - 1): each row without the entry of its class."""
    kept_BK = torch.ones_like(values_BK, dtype=torch.bool).scatter(1, labels_B[:, None], False)
    return values_BK[kept_BK].view(values_BK.shape[0], values_BK.shape[1] - 1)


def check_scores(term: str, maps: Maps) -> None:
    """BadOption unless student and teacher score the same, at least two, classes."""
    check_same_channels(term, "logits", maps.student["logits"], maps.teacher["logits"])
    check_several_classes(term, maps.student["logits"])


def check_several_classes(term: str, spec: TensorSpec) -> None:
    """BadOption for one class: there is none beside the true one."""
    if spec.channels < 2:
        raise BadOption(
            f"the logits have {spec.channels} class, and this loss compares a class with the others",
            where=f"loss term '{term}'",
            fix="use images of at least two classes",
        )
