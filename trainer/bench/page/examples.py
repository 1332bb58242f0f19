"""Images of a split, their truth, and what each network says of them; and where the networks differ."""

import io
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from kdcache.cache.images.feed import ImageBatch
from kdcache.cache.networks.network import Network
from kdcache.cache.sources.contract import Source
from kdcache.cache.tasks.panels import class_colour, enlarged
from kdcache.cache.tasks.table import task_of
from kdcache.trainer.judge.contract import Answers, Judge
from kdcache.trainer.judge.judge import drawing_judge, evaluating, judged_images
from kdcache.trainer.stream.source_samples import as_samples

MOST_PX = 360  # width of a picture
DIFFERS = np.array((213, 94, 0), dtype=np.float32)  # vermilion, told from grey by everybody


class Panel(NamedTuple):
    """One network's answer, or what it is compared with."""

    title: str
    picture: bytes = b""  # PNG or JPEG, whichever is smaller; b'' where there are words
    words: str = ""
    wrong: bool = False  # of words: whether the data set says another class


class Example(NamedTuple):
    key: str
    panels: list[Panel]


def draw_examples(
    networks: Mapping[str, Network],
    source: Source,
    count: int,
    *,
    input_size: tuple[int, int],
    num_threads: int = 1,
) -> list[Example]:
    """`count` images of `source`, spread evenly and chosen by nobody; title -> network. `input_size` is the
    (height, width) that they were made for. Raises KdError for images and networks that do not fit."""
    counting, truth = drawing_judge(source), task_of(source.task).truth
    groups = [[index] for index in spread_evenly(len(source.keys), count)]
    images = judged_images(
        as_samples(source), groups, counting, truth, input_size, torch.device("cpu"), num_threads
    )
    with closing(images):
        return [
            Example(str(source.keys[group[0]]), _panels(networks, source, counting, batch))
            for group, batch in zip(groups, images, strict=True)
        ]


def spread_evenly(size: int, count: int) -> list[int]:
    """The middles of `count` equal parts of range(size)."""
    count = min(size, count)
    return [(2 * place + 1) * size // (2 * count) for place in range(count)]


def colours_of(source: Source) -> dict[str, tuple[int, int, int]]:
    """Class name -> red, green, blue of its pixels or frames; empty where answers are words."""
    counting = drawing_judge(source)
    if counting.no_pictures:
        return {}
    names = enumerate(source.class_names)
    return {str(name): class_colour(number, counting.colours) for number, name in names}


def _panels(
    networks: Mapping[str, Network], source: Source, counting: Judge, batch: ImageBatch
) -> list[Panel]:
    image_HWC, row = batch.images_BHWC[0].numpy(), batch.feed.truths[0]
    answers = {title: _ask(network, counting, batch) for title, network in networks.items()}
    first = Panel("image", _encoded(image_HWC))
    if counting.no_pictures:
        said = [
            Panel(title, words=counting.words(one), wrong=not counting.is_right(one, row.own))
            for title, one in answers.items()
        ]
        return [first, Panel("truth", words=counting.truth_words(row.own)), *said]
    map_HW = None if batch.maps_BHW is None else batch.maps_BHW[0].numpy()
    truth = task_of(source.task).truth.panel(row, map_HW, source.class_names, image_HWC, counting.colours)
    pictures = {}
    for title, network in networks.items():
        counting.meet(network, (image_HWC.shape[0], image_HWC.shape[1]))
        pictures[title] = counting.picture(answers[title], image_HWC)
    panels = [first, Panel("truth", _encoded(truth))]
    panels += [Panel(title, _encoded(pixels)) for title, pixels in pictures.items()]
    if len(pictures) > 1:
        panels.append(
            Panel("where the answers differ", _encoded(differing(image_HWC, list(pictures.values()))))
        )
    return panels


def _ask(network: Network, counting: Judge, batch: ImageBatch) -> Answers:
    counting.meet(network, (batch.images_BHWC.shape[1], batch.images_BHWC.shape[2]))
    with evaluating(network, counting.taps) as ask:
        return ask(batch.images_BHWC)


def differing(image_HWC: np.ndarray, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """The image in grey, with every pixel in vermilion that not all of the pictures (H, W, 3) show alike."""
    image_HWC = enlarged(image_HWC, pictures[0].shape[1] // image_HWC.shape[1])  # as boxes are drawn
    unlike_HW = np.zeros(image_HWC.shape[:2], dtype=bool)
    for other in pictures[1:]:
        unlike_HW |= (other != pictures[0]).any(-1)
    grey_HW = image_HWC.astype(np.float32).mean(-1) * 0.6 + 90
    shown = np.repeat(grey_HW[..., None], 3, axis=-1)
    shown[unlike_HW] = 0.25 * shown[unlike_HW] + 0.75 * DIFFERS
    return shown.clip(0, 255).astype(np.uint8)


def _encoded(pixels_HWC: np.ndarray) -> bytes:
    image = Image.fromarray(enlarged(pixels_HWC))
    if image.width > MOST_PX:
        height = max(1, round(image.height * MOST_PX / image.width))
        # Colours of classes are not mixed: a mixture would be another class's.
        image = image.resize((MOST_PX, height), Image.Resampling.NEAREST)
    kinds = []
    for name, options in (("PNG", {"optimize": True}), ("JPEG", {"quality": 88})):
        file = io.BytesIO()
        image.save(file, name, **options)
        kinds.append(file.getvalue())
    return min(kinds, key=len)
