"""Which stored view a sample shows: all of them in turn, and not the same one for all samples."""

from types import SimpleNamespace
from typing import Any, cast

from kdcache.cache.reader.cache import Cache
from kdcache.cache.views.sets import ViewSet
from kdcache.cache.views.words import key_hash
from kdcache.trainer.stream.stored_views import CropViews

VIEWS = 4


def crop_views() -> CropViews:
    """Over a cache of which only the keys are asked."""
    stored: Any = SimpleNamespace(
        key_hash=lambda index: key_hash(f"scene{index:02d}"),
        row=lambda index, number: SimpleNamespace(sample=index, view=number),
    )
    crops = ViewSet(kind="crops", first=2, count=VIEWS, crop=(8, 8))
    return CropViews(cast(Cache, stored), [crops])


def test_an_epoch_shows_all_views_and_not_one_of_them_for_every_sample() -> None:
    views = crop_views()
    for epoch in range(2):
        assert {views.row(index, epoch).view for index in range(40)} == {2, 3, 4, 5}


def test_as_many_epochs_as_there_are_views_show_a_sample_in_each() -> None:
    views = crop_views()
    for index in range(5):
        assert sorted(views.row(index, epoch).view for epoch in range(3, 3 + VIEWS)) == [2, 3, 4, 5]
