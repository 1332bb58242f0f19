"""Partial targets: what of a teacher's distribution is kept, and what is spread evenly.

After Tang et al. 2020, https://arxiv.org/abs/2002.03532; recalled, neither text nor code was at hand.
"""

from torch import Tensor
from torch.nn import functional

from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.scores import kl_to_target, of_true_class


@in_float32
def keep_top(probability_BK: Tensor, k: int) -> Tensor:
    """The k largest entries of each row; the rest of the mass evenly on the other K - k classes."""
    num_others = probability_BK.shape[1] - k
    kept_Bk, places_Bk = probability_BK.topk(k, dim=1)
    if num_others == 0:
        return probability_BK
    rest_B1 = (1 - kept_Bk.sum(1, keepdim=True)).clamp(min=0) / num_others
    return rest_B1.expand_as(probability_BK).scatter(1, places_Bk, kept_Bk)


@in_float32
def keep_true(probability_BK: Tensor, labels_B: Tensor) -> Tensor:
    """The entry of the true class; the rest of the mass evenly on the others."""
    true_B = of_true_class(probability_BK, labels_B)
    rest_B1 = ((1 - true_B) / (probability_BK.shape[1] - 1))[:, None]
    return rest_B1.expand_as(probability_BK).scatter(1, labels_B[:, None], true_B[:, None])


@in_float32
def class_relations(classifier_KD: Tensor, *, power: float, temperature: float) -> Tensor:
    """(K, K): row y is softmax over k of cos(w_y, w_k)^power / temperature, w the classifier's weights.

    A negative cosine keeps its sign, -|cos|^power: a fractional power of it would be no number.
    """
    unit_KD = functional.normalize(classifier_KD, dim=1)
    cosine_KK = unit_KD @ unit_KD.T
    return (cosine_KK.sign() * cosine_KK.abs() ** power / temperature).softmax(1)


def partial_kd(student_BK: Tensor, target_BK: Tensor, *, temperature: float) -> Tensor:
    """T^2 * mean over images of KL(target || softmax(s / T))."""
    return temperature**2 * kl_to_target(student_BK, target_BK, temperature=temperature)


@in_float32
def tempered(teacher_BK: Tensor, *, temperature: float) -> Tensor:
    """softmax(t / T) over the classes."""
    return (teacher_BK / temperature).softmax(1)
