"""At half size the nearest label falls exactly between two pixels: everywhere the same one must be taken."""

import numpy as np
import pytest
from encoded_images import encode, rows_of

from kdcache.cache.images.feed import Feed
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.views.view import Geometry


@pytest.mark.parametrize(("height", "width"), [(12, 14), (50, 98), (54, 202)])
def test_a_label_at_half_size_is_every_second_pixel_counted_from_the_second(height: int, width: int) -> None:
    label = (np.arange(height * width) % 251).astype(np.uint8).reshape(height, width)
    image = np.zeros((height, width, 3), dtype=np.uint8)
    geometry = Geometry(height // 2, width // 2, 0, 0, 0, height // 2, width // 2)

    def feed(number: int) -> Feed | None:
        return None if number else Feed(rows_of(geometry), [encode(image)], maps=[encode(label)])

    (batch,) = ImagePipeline(feed, batch_size=1, with_maps=True).run()
    assert batch.maps_BHW is not None and np.array_equal(batch.maps_BHW[0].numpy(), label[1::2, 1::2])
