"""Mixed images: the class of the larger share comes first, whoever's image it was."""

import torch

from kdcache.trainer.steps.labels import dominating
from kdcache.trainer.stream.batch import Batch, Mixed

CPU = torch.device("cpu")


def batch(mixed: Mixed | None) -> Batch:
    labels = torch.tensor([1, 2, 3])
    return Batch(torch.zeros(3, 1, 1, 3).byte(), labels, {}, 0, 0, torch.arange(3), mixed)


def test_the_larger_share_comes_first_and_the_other_is_kept() -> None:
    labels, mixed = dominating(batch(Mixed(torch.tensor([7, 8, 9]), torch.tensor([0.75, 0.25, 0.5]))), CPU)
    assert labels.tolist() == [1, 8, 3]
    assert mixed is not None
    assert mixed.labels_B.tolist() == [7, 2, 9]
    assert mixed.share_B.tolist() == [0.75, 0.75, 0.5]


def test_images_that_are_not_mixed_keep_their_labels() -> None:
    labels, mixed = dominating(batch(None), CPU)
    assert labels.tolist() == [1, 2, 3] and labels.dtype == torch.int64 and mixed is None
