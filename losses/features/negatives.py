"""Samples of other classes: drawn without repetition, from the step's own generator."""

import torch
from torch import Tensor, nn

from kdcache.cache.spec import BadOption


class OtherClasses(nn.Module):
    """The classes of all samples, sorted, so that all samples of other classes are two ranges.

    Kept as buffers that no checkpoint holds: they are facts of the data. Samples without a class (-1) are
    never drawn. BadOption where the classes are unknown, or all alike.
    """

    classes_N: Tensor
    sorted_V: Tensor

    def __init__(self, labels_N: Tensor | None, num_samples: int, *, where: str) -> None:
        super().__init__()
        if labels_N is None or len(labels_N) != num_samples or num_samples == 0:
            known = 0 if labels_N is None else len(labels_N)
            raise BadOption(
                f"the classes of {known} samples are known, of {num_samples} samples in all",
                where=where,
                fix="train from a classification cache or source, which knows the class of every sample",
            )
        valid = (labels_N >= 0).nonzero().flatten()
        order = labels_N[valid].argsort(stable=True)
        counts = labels_N[valid].bincount()
        self.counts: list[int] = counts.tolist()
        self.starts: list[int] = (counts.cumsum(0) - counts).tolist()
        self.fewest = len(valid) - max(self.counts, default=0)
        if self.fewest == 0:
            raise BadOption(
                f"all {len(valid)} samples are of one class: there are no negatives",
                where=where,
                fix="train on at least two classes, or without this term",
            )
        self.register_buffer("classes_N", labels_N.clone(), persistent=False)
        self.register_buffer("sorted_V", valid[order], persistent=False)

    def draw(self, samples_B: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """(B, count): for each row `count` different samples whose class is not the row's own."""
        classes: list[int] = self.classes_N[samples_B].tolist()
        rows = []
        for label in classes:  # one permutation at a time: B x N numbers would be 330 MB for ImageNet
            num_others = len(self.sorted_V) - self.counts[label]
            drawn = torch.randperm(num_others, generator=generator, device=generator.device)[:count]
            after = drawn >= self.starts[label]
            rows.append(drawn + after * self.counts[label])
        return self.sorted_V[torch.stack(rows).to(self.sorted_V.device)]
