"""Are the pixels of today those that the teacher saw?

The cache keeps a digest of every row's teacher input. Some are re-made before the first batch, spread over
samples and views; on the CPU every stored crop is compared as it passes for the first time. Another version
of the decoder, or decoding on another device, gives slightly other pixels: the stored targets would answer
another question, and nothing later would show it. Windows of whole images are cut while they are decoded, so
of them only the sample before the first batch is compared, and all by 'kdcache verify --pixels'.
"""

from collections.abc import Sequence

from torch import Tensor

from kdcache.cache.errors import BadCache
from kdcache.cache.images.feed import Feed, pixel_digests
from kdcache.cache.images.pipeline import ImagePipeline, changed_facts
from kdcache.cache.reader.cache import Cache
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
        self._seen: set[tuple[int, int]] = set()

    def compare(self, rows: Sequence[Row], images_BHWC: Tensor) -> None:
        """Raises BadCache at the first row whose pixels are not those that the teacher saw."""
        if images_BHWC.device.type != "cpu":
            return
        places = [(row.sample, row.view) for row in rows]
        if all(
            row.window is not None or place in self._seen for row, place in zip(rows, places, strict=True)
        ):
            return
        for row, place, digest in zip(rows, places, pixel_digests(images_BHWC).tolist(), strict=True):
            if row.window is None and place not in self._seen:
                self._seen.add(place)
                _require(self._cache, *place, digest, None)


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
