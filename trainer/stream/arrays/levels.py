"""Where the pixels of stored views come from: kept, decoded once, or through the image pipeline every time.

Always the same pixels, bit for bit; the choice is made by what is there, and said.
"""

from typing import NamedTuple

import numpy as np

from kdcache.cache.errors import size_text
from kdcache.cache.images.decoded import CROP_H, Layout, Reach, joined, layout_of, reach_of
from kdcache.cache.processes.memory import free_memory
from kdcache.cache.reader.cache import Cache
from kdcache.cache.spec import FILL_RGB
from kdcache.cache.tasks.table import task_of
from kdcache.cache.views.sets import MIRROR_OF
from kdcache.trainer.stream.arrays.kept_pixels import keeps_pixels
from kdcache.trainer.stream.arrays.view_table import ViewTable, read_table
from kdcache.trainer.stream.options import AUTO, DALI
from kdcache.trainer.stream.stored_views import StoredViews, WindowViews, stored_sizes

MOST_MEMORY = 1 << 31  # bytes that decoded images take when nobody says
SHARE = 4  # of the free memory, one part in so many
SURE = 2  # times the room: what the first block promises to need, where the others need not be asked


class Rule(NamedTuple):
    """What a user says of pixels."""

    stream: str = AUTO  # or DALI
    memory: int | None = None  # bytes that decoded images may take; 0: none; None: as much as is sensible


class Level(NamedTuple):
    """What is chosen."""

    said: str  # for the run's header
    kept: bool = False  # finished, in the cache
    decoded: Layout | None = None  # the images that are decoded once; None: through the image pipeline
    table: ViewTable | None = None  # what every crop shows


def choose_level(cache: Cache, views: StoredViews, invalid: np.ndarray, rule: Rule) -> Level:
    """`invalid`: sorted indices that the stream leaves out."""
    if rule.stream == DALI:
        return Level("DALI, because --stream dali asks for it")
    if keeps_pixels(cache, views):
        return Level("kept by the cache, nothing is decoded", kept=True)
    room = _room(rule)
    if room == 0:
        return Level("DALI, because --pixel-memory is 0")
    channels = len(FILL_RGB) + int(task_of(cache.task).truth.rides)
    if (promised := _promised(cache, len(invalid)) * channels) > SURE * room:
        return Level(_too_large(promised, room, "about "))
    sizes = stored_sizes(cache)
    kept = np.ones(cache.num_samples, dtype=bool)
    kept[invalid] = False
    if (least := int(sizes[kept].prod(axis=1).sum()) * channels) > room:
        return Level(_too_large(least, room))
    table = None if isinstance(views, WindowViews) else read_table(cache, views.numbers(), kept)
    reach = _reach(views, table, sizes)
    if reach is None:
        return Level("DALI, because the views resize their images")
    if table is not None:
        kept |= table.mixed
    layout = layout_of(sizes, kept, reach)
    if (needed := layout.num_pixels * channels) > room:
        return Level(_too_large(needed, room))
    return Level(
        f"decoded once, {int(kept.sum()):,} images, {size_text(needed)}", decoded=layout, table=table
    )


def _room(rule: Rule) -> int:
    if rule.memory is not None:
        return rule.memory
    free = free_memory()
    return MOST_MEMORY if free is None else min(MOST_MEMORY, free // SHARE)


def _promised(cache: Cache, absent: int) -> int:
    """Pixels of all images, were they like those of the first block: millions of others are not looked at."""
    numbers = cache.generation.block_numbers
    if not numbers:
        return 0
    block = cache.block(numbers[0])
    pixels = int((block.heights.astype(np.int64) * block.widths).sum())
    return pixels * (cache.num_samples - absent) // max(1, len(block))


def _too_large(needed: int, room: int, about: str = "") -> str:
    return (
        f"DALI, because the images take {about}{size_text(needed)} decoded and --pixel-memory is "
        f"{size_text(room)}"
    )


def _reach(views: StoredViews, table: ViewTable | None, sizes: np.ndarray) -> Reach | None:
    """How far the crops of these views go, None where one resizes. Of windows there is no table."""
    if table is None:
        assert isinstance(views, WindowViews)
        return Reach(views.beside, views.crop[1], any(one.kind in MIRROR_OF.values() for one in views.sets))
    reaches: list[Reach] = []
    for geometry in table.geometry:
        drawn = geometry[geometry[:, CROP_H] > 0]
        if (drawn[:, :2] != sizes[geometry[:, CROP_H] > 0]).any():
            return None
        reaches.append(reach_of(drawn))
    return joined(reaches)
