"""Memories of CIRKD: per class a ring of teacher pixels and a ring of teacher regions, unit vectors.

Per step and rank the teacher's maps of all ranks are enqueued: image by image, class by class,
1. region: mean of the class's vectors, of unit length again, to the next slot;
2. pixels: `per_class` vectors (fewer where the class has fewer), to the next slots.
Then the contrast set: one random permutation of the slots, its first P slots of every class.

`queue=faithful` keeps two faults of the published code: the vectors taken for a class are the map's first
pixels (a permutation of 0 .. count - 1 used as positions), whatever their class; and vectors that do not fit
before the end overwrite the ring's last slots. `corrected` takes the class's own pixels and wraps around.
Yang et al. 2022, https://arxiv.org/abs/2204.06986; winycg/CIRKD 2d8ad0f StudentSegContrast.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcache.cache.spec import IGNORE
from kdcache.losses.formulas.gather import gather_rows

Queue = Literal["faithful", "corrected"]
Permute = Callable[[int], Tensor]  # n -> a permutation of 0 .. n - 1, int64 on the CPU


class ClassMemory(nn.Module):
    """K classes, D channels. The buffers take K * (pixels + regions) * D * 4 bytes: 0.4 GB for Cityscapes'
    19 classes and 256 channels, 3.4 GB for ADE20K's 150; they start as random unit vectors.
    """

    pixels_KPD: Tensor
    regions_KRD: Tensor
    next_pixel_K: Tensor
    next_region_K: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int,
        *,
        pixels: int,
        regions: int,
        per_class: int,
        queue: Queue,
    ) -> None:
        super().__init__()
        self.per_class = per_class
        self.queue: Queue = queue
        for name, slots in (("pixels_KPD", pixels), ("regions_KRD", regions)):
            self.register_buffer(name, functional.normalize(torch.randn(num_classes, slots, channels), dim=2))
        for name in ("next_pixel_K", "next_region_K"):
            self.register_buffer(name, torch.zeros(num_classes, dtype=torch.int64))

    @torch.no_grad()
    def enqueue(self, teacher_BDHW: Tensor, labels_BHW: Tensor, permute: Permute) -> None:
        """Unit vectors of this rank and their labels; every rank stores those of all."""
        features_BND = gather_rows(teacher_BDHW).flatten(2).transpose(1, 2).to(self.pixels_KPD.dtype)
        labels_BN = gather_rows(labels_BHW).flatten(1).cpu()
        next_pixel, next_region = self.next_pixel_K.tolist(), self.next_region_K.tolist()
        for features_ND, labels_N in zip(features_BND, labels_BN, strict=True):
            for label in labels_N.unique().tolist():
                if label == IGNORE:
                    continue
                places = (labels_N == label).nonzero().flatten()
                next_region[label] = self._add_region(label, features_ND, places, next_region[label])
                chosen = permute(len(places))[: self.per_class]
                taken = chosen if self.queue == "faithful" else places[chosen]
                next_pixel[label] = self._add_pixels(label, features_ND, taken, next_pixel[label])
        self.next_pixel_K.copy_(torch.tensor(next_pixel))
        self.next_region_K.copy_(torch.tensor(next_region))

    def contrast_pixels(self, num_per_class: int, permute: Permute) -> Tensor:
        """(K * P, D) copies of the pixels in P slots drawn for all classes alike."""
        return _drawn(self.pixels_KPD, num_per_class, permute)

    def contrast_regions(self, num_per_class: int, permute: Permute) -> Tensor:
        return _drawn(self.regions_KRD, num_per_class, permute)

    def _add_region(self, label: int, features_ND: Tensor, places: Tensor, slot: int) -> int:
        mean = features_ND[places.to(features_ND.device)].mean(0)
        self.regions_KRD[label, slot] = functional.normalize(mean, dim=0)
        return (slot + 1) % self.regions_KRD.shape[1]

    def _add_pixels(self, label: int, features_ND: Tensor, taken: Tensor, slot: int) -> int:
        count, size = len(taken), self.pixels_KPD.shape[1]
        vectors = functional.normalize(features_ND[taken.to(features_ND.device)], dim=1)
        over = self.queue == "faithful" and slot + count >= size
        slots = (torch.arange(count) + (size - count if over else slot)) % size
        self.pixels_KPD[label, slots.to(features_ND.device)] = vectors
        return 0 if over else (slot + count) % size


def _drawn(queue_KSD: Tensor, num_per_class: int, permute: Permute) -> Tensor:
    slots = permute(queue_KSD.shape[1])[:num_per_class]
    return queue_KSD[:, slots.to(queue_KSD.device)].flatten(0, 1)


def shared_permutations(generator: torch.Generator) -> Permute:
    """Permutations that are the same on all ranks, from a seed that rank 0's generator draws."""
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    shared = torch.Generator().manual_seed(int(gather_rows(seed)[0]))
    return lambda count: torch.randperm(count, generator=shared)
