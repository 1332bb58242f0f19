"""What a stored stream refuses before its first batch: needs, views and windows it cannot give."""

from dataclasses import replace

import pytest
from aligned_cache import BAD, NEEDS, NUM_SAMPLES, build_aligned_cache, draw_lossless_folder

from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.reader.cache import Cache
from kdcache.cache.spec import Need
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.stored import StoredStream

ONE = BatchLayout(seed=3, global_batch=4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return build_aligned_cache(
        draw_lossless_folder(tmp_path_factory.mktemp("stored") / "data"), "zarr", "crops:2+full"
    )


def test_a_need_the_cache_lacks_prints_the_command_that_would_add_it(cache: Cache) -> None:
    with pytest.raises(BadOption) as error:
        StoredStream(cache, needs=[Need(tap="neck")], layout=ONE)
    assert f"kdcache build --cache {cache.manifest.name} --tap neck" in str(error.value)


def test_a_window_that_does_not_fit_names_the_image_and_the_largest_window(cache: Cache) -> None:
    with pytest.raises(BadOption) as error:
        StoredStream(cache, needs=NEEDS, layout=ONE, views="full", crop=(69, 96))
    assert "window of 69x96 does not fit 'scene01', which is 67x100" in str(error.value)
    assert "at most 68x100" in str(error.value)
    StoredStream(cache, needs=NEEDS, layout=ONE, views="full", crop=(68, 100))


def test_a_crop_size_that_is_not_stored_names_those_that_are(cache: Cache) -> None:
    with pytest.raises(BadOption, match="keeps crops of 40x48, not of 32x32"):
        StoredStream(cache, needs=NEEDS, layout=ONE, crop=(32, 32))


def test_an_unknown_family_of_views_lists_the_legal_ones(cache: Cache) -> None:
    with pytest.raises(BadOption, match="unknown views 'windows'"):
        StoredStream(cache, needs=NEEDS, layout=ONE, views="windows")


def with_manifest(cache: Cache, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Cache:
    monkeypatch.setattr(cache, "manifest", replace(cache.manifest, **changes))  # type: ignore[arg-type]
    return cache


def test_a_family_of_views_that_is_not_stored_prints_the_command_that_would_add_it(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = tuple(v for v in cache.manifest.views if v.kind == "crops")
    with_manifest(cache, monkeypatch, views=crops)
    with pytest.raises(BadOption) as error:
        StoredStream(cache, needs=NEEDS, layout=ONE, views="full")
    assert f"kdcache build --cache {cache.manifest.name} --views full" in str(error.value)


def test_views_that_are_claimed_but_not_finished_are_left_out_or_refused(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished = replace(cache.manifest.views[0], first=4, draw_first=2)
    with_manifest(cache, monkeypatch, views=(*cache.manifest.views, unfinished))
    stream = StoredStream(cache, needs=NEEDS, layout=ONE, views="crops")
    assert {stream.views.row(0, epoch).view for epoch in range(8)} == {0, 1}
    with_manifest(cache, monkeypatch, views=(unfinished,))
    with pytest.raises(BadCache, match="no crops view is finished") as error:
        StoredStream(cache, needs=NEEDS, layout=ONE, views="crops")
    assert f"kdcache build --cache {cache.manifest.name}" in str(error.value)


def test_no_epoch_of_a_stored_stream_visits_an_invalid_sample(cache: Cache) -> None:
    stream = StoredStream(cache, needs=(), layout=ONE)
    assert stream.num_samples == 7
    seen = {row.sample for step in range(20) for row in stream.rows(step)}
    assert seen == set(range(NUM_SAMPLES)) - {BAD}, "neither the bad one nor a hole"
