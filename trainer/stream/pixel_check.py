"""Are the pixels of today those that the teacher saw?

The cache keeps a digest of every row's teacher input. Some are re-made before the first batch, spread over
samples and views; on the CPU every stored crop is compared as it passes for the first time. Another version
of the decoder, or decoding on another device, gives slightly other pixels: the stored targets would answer
another question, and nothing later would show it. Windows of whole images are cut while they are decoded, so
of them only the sample before the first batch is compared, and all by 'kdcache verify --pixels'.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kdcache.cache.errors import BadCache
from kdcache.cache.images.feed import Feed, pixel_digests
from kdcache.cache.images.pipeline import ImagePipeline, changed_facts
from kdcache.cache.reader.cache import Cache
from kdcache.cache.reader.row_batch import RowBatch
from kdcache.cache.reader.rows import pixel_feed
from kdcache.cache.views.view import Row

REMADE = 4  # rows before the first batch: one decode and crop each


def check_pixels(cache: Cache, *, num_threads: int = 1, device_id: int | None = None) -> None:
    """Re-make some stored rows. Raises BadCache at the first that differs."""
    rows = list(cache.stored_rows(REMADE))

    def feed(number: int) -> Feed | None:
        return pixel_feed(cache, [cache.row(*rows[number])]) if number < len(rows) else None

    pipeline = ImagePipeline(
        feed,
        batch_size=1,
        with_maps=False,
        mixes=cache.mixes,
        num_threads=num_threads,
        device_id=device_id,
    )
    try:
        for (index, view), batch in zip(rows, pipeline.run(), strict=True):
            _require(cache, index, view, int(pixel_digests(batch.images_BHWC)[0]), device_id)
    finally:
        pipeline.close()


class PassingPixels:
    """Compares every stored row of a stream once, as it passes; rows that are cut or on a GPU pass unseen."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._seen = np.zeros((cache.manifest.num_views, cache.num_samples), dtype=bool)

    def compare(self, rows: Sequence[Row], images_BHWC: Tensor) -> None:
        """Raises BadCache at the first row whose pixels are not those that the teacher saw."""
        if images_BHWC.device.type == "cpu" and all(row.window is None for row in rows):
            samples, views = (np.array([getattr(row, name) for row in rows]) for name in ("sample", "view"))
            unseen = self._unseen(samples, views)
            if not len(unseen):
                return
            for place, digest in zip(unseen.tolist(), _digests(images_BHWC, unseen).tolist(), strict=True):
                _require(self._cache, rows[place].sample, rows[place].view, digest, None)

    def compare_batch(self, rows: RowBatch, images_BHWC: Tensor) -> None:
        """`compare` of rows that are not cut."""
        if images_BHWC.device.type != "cpu":
            return
        unseen = self._unseen(rows.samples, rows.views)
        if not len(unseen):
            return
        stored = np.empty(len(rows.samples), dtype=np.uint64)
        for group in rows.groups:
            columns = self._cache.block_views(group.block, group.view)
            stored[group.slots] = columns.pixels[group.places]
        digests = _digests(images_BHWC, unseen)
        for place in unseen[stored[unseen] != digests].tolist():
            at = int(np.flatnonzero(unseen == place)[0])
            _require(self._cache, int(rows.samples[place]), int(rows.views[place]), int(digests[at]), None)

    def _unseen(self, samples: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Places of a batch that no batch has shown before; from now on they count as seen."""
        unseen = np.flatnonzero(~self._seen[views, samples])
        self._seen[views[unseen], samples[unseen]] = True
        return unseen


def _digests(images_BHWC: Tensor, places: np.ndarray) -> np.ndarray:
    chosen = images_BHWC if len(places) == len(images_BHWC) else images_BHWC[torch.from_numpy(places)]
    return pixel_digests(chosen)


def _require(cache: Cache, index: int, view: int, remade: int, device_id: int | None) -> None:
    stored = cache.pixel_digest(index, view)
    if remade != stored:
        raise _other_pixels(cache, index, view, f"{stored:016x}", f"{remade:016x}", device_id)


def _other_pixels(
    cache: Cache, index: int, view: int, stored: str, remade: str, device_id: int | None
) -> BadCache:
    """The error, with what differs between the recorded pipeline and this one."""
    changed = changed_facts(cache.manifest.pipeline, device_id)
    why = changed or "nothing recorded differs: the stored image or this machine's decoder does"
    return BadCache(
        f"the image pipeline makes other pixels than the teacher saw: '{cache.key(index)}' view {view} "
        f"has digest {remade}, stored is {stored} (at build -> now: {why})",
        where=str(cache.root),
        fix="train with the DALI version and the device kind of the build, or build the cache again here; "
        "if nothing changed, 'kdcache verify' finds damaged samples",
    )
