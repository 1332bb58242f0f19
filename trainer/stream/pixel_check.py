"""Are the pixels of today those that the teacher saw? Asked once, before the first batch.

The builder keeps the digest of some teacher inputs. They are re-made here from the stored samples and
views, one at a time. Another version of the decoder, or decoding on another device, gives slightly other
pixels: the stored targets would answer another question, and nothing later would show it.
Cost: one decode and crop per digest (a few in all).
"""

from kdcache.cache.errors import BadCache
from kdcache.cache.images.feed import Feed, pixel_digest
from kdcache.cache.images.pipeline import ImagePipeline, pipeline_facts
from kdcache.cache.reader.cache import Cache
from kdcache.cache.reader.rows import pixel_feed


def check_pixels(cache: Cache, *, num_threads: int = 1, device_id: int | None = None) -> None:
    """Re-make the rows whose digests the cache keeps. Raises BadCache at the first that differs."""
    stored = cache.pixel_digests()

    def feed(number: int) -> Feed | None:
        if number >= len(stored):
            return None
        index, view, _ = stored[number]
        return pixel_feed(cache, [cache.row(index, view)])

    pipeline = ImagePipeline(
        feed,
        batch_size=1,
        with_maps=False,
        mixes=cache.mixes,
        num_threads=num_threads,
        device_id=device_id,
    )
    try:
        for (index, view, digest), batch in zip(stored, pipeline.run(), strict=True):
            remade = pixel_digest(batch.images_BHWC)[0]
            if remade != digest:
                raise _other_pixels(cache, index, view, digest, remade, device_id)
    finally:
        pipeline.close()


def _other_pixels(
    cache: Cache, index: int, view: int, stored: str, remade: str, device_id: int | None
) -> BadCache:
    """The error, with what differs between the recorded pipeline and this one."""
    then, now = dict(cache.manifest.pipeline), pipeline_facts(device_id)
    changed = [
        f"{k} {then.get(k)} -> {now.get(k)}" for k in sorted({*then, *now}) if then.get(k) != now.get(k)
    ]
    why = "; ".join(changed) or "nothing recorded differs: the stored image or this machine's decoder does"
    return BadCache(
        f"the image pipeline makes other pixels than the teacher saw: '{cache.key(index)}' view {view} "
        f"has digest {remade}, stored is {stored} (at build -> now: {why})",
        where=str(cache.root),
        fix="train with the DALI version and the device kind of the build, or build the cache again here; "
        "if nothing changed, 'kdcache verify' finds damaged samples",
    )
