"""No picture is decoded whose header claims more pixels than the limit, whichever part of a batch it is."""

import numpy as np
import pytest
from bounded_memory import bounded_memory
from encoded_images import WHOLE, encode, ending, noise, painted, rows_of

from kdcache.cache.errors import BadSample
from kdcache.cache.images.feed import Feed
from kdcache.cache.images.pipeline import ImagePipeline

HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (16000).to_bytes(4) * 2 + b"\x08\0\0\0\0"
HUGE = np.frombuffer(HEAD, np.uint8)


@pytest.mark.parametrize(
    ("part", "name"), [("encoded", "image"), ("maps", "label"), ("mixed_in", "image mixed in")]
)
@pytest.mark.timeout(60)
def test_a_picture_of_gigabytes_is_named_and_not_decoded(part: str, name: str) -> None:
    image, label = encode(noise()), encode(painted()[1])
    whole = Feed(rows_of(WHOLE, WHOLE), [image] * 2, maps=[label] * 2, mixed_in=[None, image])
    harmed = whole._replace(**{part: [getattr(whole, part)[0], HUGE]})
    feeds = ending(lambda number: whole if number == 0 else harmed, 3)
    pipeline = ImagePipeline(
        feeds,
        batch_size=2,
        with_maps=True,
        mixes=True,
        name_of=lambda number, row: f"sample {row} of {number}",
    )
    batches = pipeline.run()
    next(batches)  # what came before is delivered
    with bounded_memory(), pytest.raises(BadSample) as caught:
        next(batches)
    said = "too large: 16000x16000 pixels (height x width), at most 178956970 in all are decoded"
    assert (
        caught.value.what == f"{name} is {said}" and caught.value.where == "sample 1 of 1 (row 1 of batch 1)"
    )
    assert caught.value.fix.startswith("cut it into pieces or shrink it")
