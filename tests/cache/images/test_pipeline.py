"""What goes in comes out in order and stays as it was; a failure says which sample or shard it was."""

import io
import itertools
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from encoded_images import WHOLE, encode, ending, noise, painted, plain_feed, rows_of
from PIL import Image

from kdcache.cache.errors import BadCache, BadSample
from kdcache.cache.images.feed import Feed
from kdcache.cache.images.pipeline import ImagePipeline

# ---- stream ------------------------------------------------------------------------------------------------


def test_passengers_pass_through_untouched_in_every_type_and_shape() -> None:
    half = [np.array([np.nan, 65504, -0.0, 6e-8], dtype=np.float16).reshape(2, 2)] * 3
    odd = np.frombuffer(bytes(range(33)), dtype=np.uint8)[1:].view(np.float32).reshape(2, 4)  # unaligned
    number = [np.array(2**40 + i, dtype=np.int64) for i in range(3)]
    kinds: list[list[np.ndarray]] = [half, [odd] * 3, number, [np.arange(7, dtype=np.uint8)] * 3]

    def feed(number: int) -> Feed:
        return Feed(rows_of(*[WHOLE] * 3), [encode(noise())] * 3, passengers=kinds)

    pipeline = ImagePipeline(ending(feed, 1), batch_size=3, with_maps=False, num_passengers=4)
    (batch,) = pipeline.run()
    assert batch.maps_BHW is None
    for tensor, kind in zip(batch.passengers, kinds, strict=True):
        want = np.stack(kind)
        assert tensor.numpy().dtype == want.dtype and tensor.numpy().tobytes() == want.tobytes()
        assert tuple(tensor.shape) == want.shape


def test_the_stream_starts_at_the_batch_asked_for_and_is_endless() -> None:
    asked = []

    def feed(number: int) -> Feed:
        asked.append(number)
        return plain_feed(number)

    pipeline = ImagePipeline(feed, batch_size=2, with_maps=True, num_passengers=1)
    batches = list(itertools.islice(pipeline.run(5), 4))
    assert [int(b.passengers[0].mean()) for b in batches] == [5, 6, 7, 8]
    assert [int(b.maps_BHW[0, 0, 0]) for b in batches if b.maps_BHW is not None] == [5, 6, 7, 8]
    assert asked == list(range(5, 5 + len(asked))) and len(asked) <= 4 + 2


def test_a_second_run_starts_clean_even_when_the_first_was_left_in_the_middle() -> None:
    pipeline = ImagePipeline(ending(plain_feed, 6), batch_size=2, with_maps=True, num_passengers=1)
    left = pipeline.run()
    next(left)
    numbers = [int(b.passengers[0].mean()) for b in pipeline.run(2)]
    assert numbers == [2, 3, 4, 5]
    assert [int(b.passengers[0].mean()) for b in pipeline.run()] == list(range(6))
    assert int(next(left).passengers[0].mean()) == 1


def test_a_short_last_batch_and_an_empty_stream_end_quietly() -> None:
    def feed(number: int) -> Feed | None:
        return plain_feed(number, size=3 if number == 0 else 1) if number < 2 else None

    pipeline = ImagePipeline(feed, batch_size=3, with_maps=True, num_passengers=1)
    assert [len(b.images_BHWC) for b in pipeline.run()] == [3, 1]
    assert list(pipeline.run(2)) == []


def test_batches_that_are_held_keep_their_values_after_the_stream_is_gone() -> None:
    pipeline = ImagePipeline(ending(plain_feed, 8), batch_size=2, with_maps=True, num_passengers=1)
    stream = pipeline.run()
    held = [next(stream) for _ in range(4)]
    list(stream)
    pipeline.close()
    del stream, pipeline
    for number, batch in enumerate(held):
        assert np.array_equal(batch.images_BHWC[1].numpy(), noise(number))
        assert batch.maps_BHW is not None and (batch.maps_BHW == number).all()
        assert (batch.passengers[0] == number).all()


def test_each_batch_comes_back_with_its_feed_whose_truths_nobody_touched() -> None:
    def feed(number: int) -> Feed:
        return plain_feed(number)._replace(truths=[f"{number}a", object])

    pipeline = ImagePipeline(ending(feed, 3), batch_size=2, with_maps=True, num_passengers=1)
    assert [b.feed.truths for b in pipeline.run()] == [[f"{number}a", object] for number in range(3)]


def test_a_ring_of_prefetch_plus_two_buffers_is_enough_and_never_shines_through() -> None:
    prefetch, ring = 2, np.zeros((4, 2, 64, 64, 16), dtype=np.uint8)

    def feed(number: int) -> Feed:
        ring[number % (prefetch + 2)] = number
        return plain_feed(number)._replace(passengers=[list(ring[number % (prefetch + 2)])])

    pipeline = ImagePipeline(
        ending(feed, 24), batch_size=2, with_maps=True, num_passengers=1, prefetch=prefetch, num_threads=2
    )
    held = list(pipeline.run())
    ring[:] = 255
    assert [int(b.passengers[0].unique()) for b in held] == list(range(24))


def test_a_closed_pipeline_has_ended_its_runs() -> None:
    pipeline = ImagePipeline(plain_feed, batch_size=2, with_maps=True, num_passengers=1)
    stream = pipeline.run()
    next(stream)
    pipeline.close()
    assert list(stream) == []


# ---- failures ----------------------------------------------------------------------------------------------


def test_an_error_of_the_feed_arrives_as_itself_after_the_batches_before_it() -> None:
    cause = OSError("disk gone")
    error = BadCache("shard 3 is torn", where="targets.zarr", fix="repair")

    def feed(number: int) -> Feed:
        if number == 3:
            raise error from cause
        return plain_feed(number)

    pipeline = ImagePipeline(feed, batch_size=2, with_maps=True, num_passengers=1)
    numbers = []
    with pytest.raises(BadCache) as caught:
        for batch in pipeline.run():
            numbers.append(int(batch.passengers[0].mean()))
    assert caught.value is error and error.__cause__ is cause
    assert numbers == [0, 1, 2]
    with pytest.raises(BadCache):
        next(pipeline.run(3))


def broken_feed(part: str, bad: np.ndarray) -> Callable[[int], Feed | None]:
    """Row 1 of batch 2 carries `bad` as its image or label; the stream ends after batch 3."""

    def feed(number: int) -> Feed:
        good = plain_feed(number, size=3)
        if number == 2:
            getattr(good, part)[1] = bad
        return good

    return ending(feed, 4)


def jpeg_half() -> np.ndarray:
    whole = encode(noise(), "JPEG")
    return whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("part", "bad", "text"),
    [
        ("encoded", jpeg_half(), "image cannot be decoded: image file is truncated"),
        ("encoded", np.frombuffer(b"no image at all", np.uint8), "image cannot be decoded: not an image"),
        ("encoded", np.zeros(0, np.uint8), "image cannot be decoded: the file is empty"),
        ("maps", encode(painted()[1])[:-40], "label cannot be decoded: "),
        (
            "maps",
            encode(painted()[0]),
            "label cannot be decoded: its colour mode is 'RGB', labels are 8-bit",
        ),
    ],
)
def test_a_sample_that_cannot_be_decoded_is_named(part: str, bad: np.ndarray, text: str) -> None:
    pipeline = ImagePipeline(
        broken_feed(part, bad),
        batch_size=3,
        with_maps=True,
        num_passengers=1,
        name_of=lambda batch, row: f"key-{batch}-{row}",
    )
    numbers = []
    with pytest.raises(BadSample, match=text) as caught:
        for batch in pipeline.run():
            numbers.append(int(batch.passengers[0].mean()))
    assert numbers == [0, 1]
    assert caught.value.where == "key-2-1 (row 1 of batch 2)"
    assert "--skip-bad" in caught.value.fix


def test_a_palette_label_is_an_error_and_not_a_brightness() -> None:
    buffer = io.BytesIO()
    Image.fromarray(painted()[1]).convert("P").save(buffer, "PNG")
    feed = broken_feed("maps", np.frombuffer(buffer.getvalue(), np.uint8))
    pipeline = ImagePipeline(feed, batch_size=3, with_maps=True, num_passengers=1)
    with pytest.raises(BadSample, match="its colour mode is 'P'") as caught:
        list(pipeline.run())
    assert caught.value.where == "row 1 of batch 2"


def test_a_format_that_only_pillow_reads_is_named_too() -> None:
    feed = broken_feed("encoded", encode(noise(), "GIF"))
    pipeline = ImagePipeline(
        feed, batch_size=3, with_maps=True, num_passengers=1, name_of=lambda batch, row: f"key-{row}"
    )
    with pytest.raises(BadSample, match="DALI cannot read") as caught:
        list(pipeline.run())
    assert "key-1" in caught.value.where


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rows": rows_of(WHOLE, WHOLE._replace(crop_h=8))}, "all crops of one feed have one size"),
        ({"passengers": [[np.zeros((4, 4))[:, ::2]] * 2]}, "DALI refuses strided arrays"),
        ({"passengers": []}, "0 passengers, 1 announced"),
        ({"maps": []}, "one map per row"),
        ({"truths": [0]}, "a truth for every row or for none"),
        ({"mixed_in": [None]}, "an image to mix in or None for every row"),
    ],
)
def test_a_feed_that_breaks_its_contract_is_stopped_at_the_door(change: dict[str, object], text: str) -> None:
    pipeline = ImagePipeline(
        lambda number: plain_feed(number)._replace(**change),  # type: ignore[arg-type]
        batch_size=2,
        with_maps=True,
        num_passengers=1,
    )
    with pytest.raises(AssertionError, match=text):
        next(pipeline.run())


@pytest.mark.slow
def test_feeds_and_digests_can_be_used_without_dali() -> None:
    code = "import sys, kdcache.cache.images.feed; print('nvidia.dali' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
