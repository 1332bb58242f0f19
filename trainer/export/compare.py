"""How far an export is from the network that it was made of, on real images."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kdcache.cache.errors import NotFinite
from kdcache.cache.networks.network import Network
from kdcache.cache.sources.contract import Source
from kdcache.trainer.judge.contract import Judge
from kdcache.trainer.judge.judge import evaluating, judged_images
from kdcache.trainer.stream.source_samples import as_samples

NUM_IMAGES = 8  # that are compared
BOUND = 1e-3  # of the largest value that torch gives: float32 through a hundred layers stays far below
_CUT_PX = (5, 3)  # from one image more, where sizes are free: no side is a multiple of a stride then

Answer = Callable[[Tensor], Mapping[str, Tensor]]


class Difference(NamedTuple):
    """The largest of all answers that were compared."""

    absolute: float
    largest: float  # value that torch gave
    num_images: int

    @property
    def relative(self) -> float:
        return self.absolute / max(self.largest, 1e-30)

    @property
    def small(self) -> bool:
        return self.relative <= BOUND  # False for a difference that is no number


def real_images(
    source: Source, counting: Judge, input_px: tuple[int, int], num_threads: int, *, also_cut: bool
) -> list[Tensor]:
    """Batches (B, H, W, 3) uint8 of up to eight images of the source, in the view that is judged."""
    samples = as_samples(source)
    count = min(NUM_IMAGES, samples.num_samples)
    indices = [place * (samples.num_samples - 1) // max(1, count - 1) for place in range(count)]
    groups = counting.groups(sorted(set(indices)), counting.batch_size, samples.size)
    batches = judged_images(samples, groups, counting, None, input_px, torch.device("cpu"), num_threads)
    with closing(batches):
        images = [batch.images_BHWC for batch in islice(batches, len(groups))]
    if also_cut:
        images.append(images[0][:1, : -_CUT_PX[0], : -_CUT_PX[1]].contiguous())
    return images


def compared(network: Network, taps: Sequence[str], answer: Answer, images: Sequence[Tensor]) -> Difference:
    """Between what the network says of `images` and `answer`; a smaller map is enlarged as when it is judged.

    Raises NotFinite for a network whose own answers are none.
    """
    absolute, largest = torch.zeros(()), torch.zeros(())
    with evaluating(network, tuple(taps)) as ask:
        for images_BHWC in images:
            said, theirs = ask(images_BHWC), answer(images_BHWC)
            for tap in taps:
                wanted = _at_size_of(said[tap].float(), theirs[tap])
                # maximum and not max: it keeps what is not a number
                absolute = torch.maximum(absolute, (wanted - theirs[tap].float()).abs().max())
                largest = torch.maximum(largest, wanted.abs().max())
    if not bool(largest.isfinite()):
        raise NotFinite(
            "the student answers infinity or NaN for images of its own data",
            where=network.name,
            fix="train it again under another --run: such a student is no network that can be used",
        )
    return Difference(float(absolute), float(largest), sum(len(one) for one in images))


def _at_size_of(wanted: Tensor, other: Tensor) -> Tensor:
    """A map as it is enlarged when it is judged, where the other one was."""
    if wanted.shape == other.shape or wanted.ndim != 4:
        return wanted
    size = (other.shape[2], other.shape[3])
    return interpolate(wanted, size=size, mode="bilinear", align_corners=True)
