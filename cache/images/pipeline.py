"""The image pipeline: encoded bytes and geometry in, uint8 RGB and label maps out. The only file with DALI.

Build, training and evaluation all use it, so it defines the pixels that teacher and student see:
1. decode the whole image (EXIF rotation is not applied: labels were drawn on the stored pixels);
2. resize: images linear without antialias, maps nearest, both on one grid,
   src = (dst + 0.5) * in / out - 0.5; at equal size both are the identity, bit for bit;
3. flip left-right, crop; cells outside the image are FILL_RGB, and IGNORE in maps;
4. the view's effects, colour and mixing, after DALI in `effects`: images only.

Everything that is decoded or stacked enters through one external source, a pure function of the batch number,
so pixels, maps and passengers (stored targets) cannot get out of step; what else is known of the rows comes
back with the feed. Passengers pass through: DALI rejects fp16 in most operators. Arrays go in without a copy
and come out stacked, copied once by a DALI thread; torch then takes the buffer over through DLPack. Measured
(11 MB of targets per batch): 2.5 ms against 3.8 ms with one more copy.

Only the part of an image that its crop shows is resized. Cost on one core, image and label of 360x480 to a
crop of 176x240, decoding included: 2 ms a sample.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakSet

import nvidia.dali as dali
import torch
from nvidia.dali import Pipeline, fn, types
from nvidia.dali.tensors import TensorListCPU
from torch.utils.dlpack import from_dlpack

from kdcache.cache.images.feed import (
    PIPELINE_VERSION,
    Feed,
    ImageBatch,
    NameOf,
    check_feed,
    check_pictures,
    explained,
    find_undecodable,
    map_nudge,
    spread,
    to_mix_in,
    undecodable,
    with_effects,
)
from kdcache.cache.spec import FILL_RGB, IGNORE

_NUM_FIXED = 7  # encoded and the fields of Spread: what a feed gives before maps and passengers


def pipeline_facts(device_id: int | None) -> dict[str, str | int]:
    """What the pixels depend on beyond bytes and views, for a manifest. `device_id` None is the CPU."""
    gpu = device_id is not None
    return {
        "pipeline_version": PIPELINE_VERSION,
        "decoder": "dali mixed, hw_decoder_load=0" if gpu else "dali cpu",
        "device": torch.cuda.get_device_name(device_id) if gpu else "cpu",
        "dali": str(dali.__version__),
    }


def changed_facts(recorded: Mapping[str, object], device_id: int | None) -> str:
    """What differs between the recorded pipeline and today's, as 'dali 1.0 -> 2.0; ...'; '' for nothing."""
    then, now = dict(recorded), pipeline_facts(device_id)
    names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    return "; ".join(f"{name} {then.get(name)} -> {now.get(name)}" for name in names)


class ImagePipeline:
    """Decodes the batches that `feed` describes.

    `feed(n)` is a pure function of the batch number n; None ends the stream. It is called on the thread
    that iterates, ahead of what was delivered (by up to `prefetch` batches). An exception that it raises
    reaches the iterating caller as it is, after the batches before it. `name_of(n, row)` names a sample in
    errors. With `mixes` rows may have a partner, whose image is decoded beside theirs.
    """

    def __init__(
        self,
        feed: Callable[[int], Feed | None],
        *,
        batch_size: int,
        with_maps: bool,
        num_passengers: int = 0,
        mixes: bool = False,
        num_threads: int = 1,
        prefetch: int = 2,
        device_id: int | None = None,
        name_of: NameOf | None = None,
    ) -> None:
        self.feed = feed
        self.batch_size = batch_size
        self.with_maps = with_maps
        self.num_passengers = num_passengers
        self.mixes = mixes
        self.num_threads = num_threads
        self.prefetch = prefetch
        self.device_id = device_id
        self.name_of = name_of
        self._live: WeakSet[Generator[ImageBatch, None, None]] = WeakSet()
        self._closed = False

    def run(self, start: int = 0) -> Iterator[ImageBatch]:
        """The batches `start`, `start` + 1, ... until feed gives None.

        Each call builds its own DALI pipeline (0.07 s on a CPU), so a second run starts clean and runs do not
        disturb each other. Raises BadSample for bytes that cannot be decoded, naming the sample.
        """
        assert not self._closed, "run() after close()"
        # Built here and not when the first batch is asked for: in a thread that has no memory left DALI does
        # not say so, it ends the process.
        source = _Source(self, start)
        batches = self._batches(_build(self, source), source, start)
        self._live.add(batches)
        return batches

    def close(self) -> None:
        """Ends every run and frees its threads and buffers. Batches that were delivered stay valid."""
        self._closed = True
        for batches in list(self._live):
            batches.close()

    def _batches(self, pipe: Pipeline, source: "_Source", start: int) -> Generator[ImageBatch, None, None]:
        number = start
        while True:
            try:
                outputs = pipe.run()
            except StopIteration:
                break
            except RuntimeError as error:  # DALI has no finer type
                feed = source.in_flight[number][0]
                raise explained(error, feed, number, self.name_of, with_maps=self.with_maps) from error
            feed, _ = source.in_flight.pop(number)
            yield self._batch(outputs, feed, number)
            number += 1
        if source.error is not None:  # raised out here, so that it keeps its own cause and context
            raise source.error

    def _batch(self, outputs: Sequence[TensorListCPU], feed: Feed, number: int) -> ImageBatch:
        """DALI's lists as torch tensors. DLPack keeps each buffer alive for as long as its tensor lives."""
        maps_BHW = None
        rest = list(outputs[1:])
        mixed_BHWC = from_dlpack(rest.pop(0).as_tensor()) if self.mixes else None
        images_BHWC = with_effects(feed.rows, from_dlpack(outputs[0].as_tensor()), mixed_BHWC)
        if self.with_maps:
            maps = rest.pop(0)
            # A palette or colour PNG decodes without error to three channels that are no train ids.
            if not maps.is_dense_tensor() or maps.shape()[0][-1] != 1:
                bad_sample = find_undecodable(feed, number, self.name_of, with_maps=True)
                raise bad_sample or undecodable("label", "not an 8-bit grey PNG", number, 0, self.name_of)
            maps_BHW = from_dlpack(maps.as_tensor()).squeeze(-1)
        passengers = [from_dlpack(one.as_tensor()) for one in rest]
        return ImageBatch(images_BHWC, maps_BHW, passengers, feed)


class _Source:
    """The external source of one run: calls feed, keeps what is in flight, remembers why it ended."""

    def __init__(self, owner: ImagePipeline, start: int) -> None:
        self.owner = owner
        self.start = start
        self.error: Exception | None = None
        # no_copy: DALI reads these arrays later, and its documentation leaves it to us to keep them alive
        self.in_flight: dict[int, tuple[Feed, tuple[object, ...]]] = {}

    def give(self, iteration: int) -> tuple[object, ...]:
        number = self.start + iteration
        try:
            arrays = self._make(number)
        except Exception as error:
            # DALI would pass it on at once, ahead of the good batches that are prefetched: stop here instead.
            self.error = error
            raise StopIteration from None
        if arrays is None:
            raise StopIteration
        return arrays

    def _make(self, number: int) -> tuple[object, ...] | None:
        feed = self.owner.feed(number)
        if feed is None:
            return None
        with_maps, num_passengers = self.owner.with_maps, self.owner.num_passengers
        check_feed(feed, batch_size=self.owner.batch_size, with_maps=with_maps, num_passengers=num_passengers)
        check_pictures(feed, number, self.owner.name_of)
        geometry = [row.geometry for row in feed.rows]
        mixed = to_mix_in(feed) if self.owner.mixes else ()
        maps = (feed.maps, map_nudge(geometry)) if with_maps else ()
        arrays = (feed.encoded, *spread(geometry), *mixed, *maps, *feed.passengers)
        self.in_flight[number] = (feed, arrays)
        return arrays


def _build(owner: ImagePipeline, source: _Source) -> Pipeline:
    """The DALI graph. GPU decoding stays off the fixed-function decoder, whose pixels depend on the batch."""
    gpu = owner.device_id is not None
    pipe = Pipeline(
        batch_size=owner.batch_size,
        num_threads=owner.num_threads,
        device_id=owner.device_id,
        prefetch_queue_depth=owner.prefetch,
        exec_dynamic=True,  # its output buffers are counted, so torch can keep them
    )
    with pipe:
        num_images = 1 + int(owner.mixes)
        num_outputs = _NUM_FIXED * num_images + 2 * int(owner.with_maps) + owner.num_passengers
        given = fn.external_source(source=source.give, num_outputs=num_outputs, batch=True, no_copy=True)
        rest = list(given)
        decoder = {"device": "mixed", "hw_decoder_load": 0.0} if gpu else {"device": "cpu"}
        outputs = []
        for _ in range(num_images):
            (encoded, *numbers), rest = rest[:_NUM_FIXED], rest[_NUM_FIXED:]
            images = fn.decoders.image(encoded, output_type=types.RGB, adjust_orientation=False, **decoder)
            outputs.append(_move(images, numbers, types.INTERP_LINEAR, FILL_RGB, None))
        if owner.with_maps:
            # ANY_DATA: GRAY would turn a palette into brightness, which looks like train ids
            maps = fn.decoders.image(rest.pop(0), output_type=types.ANY_DATA, adjust_orientation=False)
            maps = maps.gpu() if gpu else maps
            outputs.append(_move(maps, numbers, types.INTERP_NN, (IGNORE,), rest.pop(0)))
        pipe.set_outputs(*outputs, *[one.gpu() if gpu else one for one in rest])
    pipe.build()
    return pipe


def _move(
    pixels: Any, numbers: Sequence[Any], interpolation: Any, fill: Sequence[int], nudge: Any | None
) -> Any:
    """Resize the region the crop shows, pad it to the crop, flip it. `numbers` are the fields of `Spread`."""
    roi_start, roi_end, size, start, shape, flip = numbers
    pixels = fn.resize(
        pixels,
        size=size,
        roi_start=roi_start if nudge is None else roi_start + nudge,
        roi_end=roi_end if nudge is None else roi_end + nudge,
        roi_relative=True,
        interp_type=interpolation,
        antialias=False,
    )
    pixels = fn.slice(
        pixels,
        start=start,
        shape=shape,
        axes=(0, 1),
        out_of_bounds_policy="pad",
        fill_values=[float(value) for value in fill],
    )
    return fn.flip(pixels, horizontal=flip)
