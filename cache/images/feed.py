"""What goes into the image pipeline and what comes out, without the pipeline: light to import, no DALI.

Legend: B batch, H W height and width of the crop in pixels.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import xxhash
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from kdcache.cache.errors import LEAVE_OUT, BadSample
from kdcache.cache.files.picture import TooManyPixels, check_picture_size
from kdcache.cache.images.effects import apply_effects
from kdcache.cache.views.view import Geometry, Op, Row

# Grows whenever the same bytes and the same view would give other pixels: part of a cache's identity.
PIPELINE_VERSION = 2
# Nearest sampling at half or double size falls exactly between two label pixels; float32 would decide by its
# rounding error. A thousandth of a pixel to the right and down decides it the same way everywhere.
NUDGE_PX = 1e-3

SHRINK = f"cut it into pieces or shrink it, or {LEAVE_OUT}"
NameOf = Callable[[int, int], str]  # (batch number, row) -> what to call that sample in an error
_FIX = f"replace the file by one that opens in an image viewer, or {LEAVE_OUT}"


class Feed(NamedTuple):
    """One batch before decoding. Every list has B entries, B <= the pipeline's batch size.

    Arrays are C-contiguous and may be read-only views of a mapped file; they are not copied on the way in.
    An array of feed n must stay unchanged until feed n + prefetch + 2 is asked for (a ring of that many
    buffers is enough). All geometries of one feed have the same crop_h and crop_w, because the output is
    dense. Rows and truths never enter the pipeline: the feed comes back with its batch.
    """

    rows: Sequence[Row]
    encoded: list[np.ndarray]  # B x (num_bytes,) uint8: JPEG or PNG as the source has it
    mixed_in: Sequence[np.ndarray | None] = ()  # likewise the images of the rows' partners; empty: of none
    maps: Sequence[np.ndarray] = ()  # B x (num_bytes,) uint8: 8-bit grey PNGs, moved like their images
    truths: Sequence[Any] = ()  # per row what the task's truth collates; nothing here looks at it
    passengers: Sequence[list[np.ndarray]] = ()  # per kind B arrays of one shape, any dtype; untouched


class ImageBatch(NamedTuple):
    """One decoded batch. The tensors own their memory: they never change and may be held for any time."""

    images_BHWC: Tensor  # uint8 RGB
    maps_BHW: Tensor | None  # uint8, 255 outside of the image
    passengers: list[Tensor]  # per kind (B, *shape)
    feed: Feed  # what it was made of; arrays of a ring may have been written again


def pixel_digests(images_BHWC: Tensor) -> np.ndarray:
    """(B,) uint64 over each image's shape and pixels: equal digests mean equal input of the network. CPU."""
    images = images_BHWC.cpu().contiguous().numpy()
    size = repr(images.shape[1:]).encode()
    seed = xxhash.xxh3_64_intdigest(size)
    return np.array([xxhash.xxh3_64_intdigest(image.data, seed) for image in images], dtype=np.uint64)


def check_feed(feed: Feed, *, batch_size: int, with_maps: bool, num_passengers: int) -> None:
    """Asserts what the docstring of Feed promises: to break it is a bug of ours, not a user's error."""
    num_rows = len(feed.rows)
    assert 0 < num_rows <= batch_size, f"a feed of {num_rows} rows for batch size {batch_size}"
    assert len(feed.encoded) == num_rows, "one image per row"
    assert not with_maps or len(feed.maps) == num_rows, "one map per row"
    assert len(feed.mixed_in) in (0, num_rows), "an image to mix in or None for every row, or none at all"
    assert len(feed.truths) in (0, num_rows), "a truth for every row or for none"
    assert len(feed.passengers) == num_passengers, (
        f"{len(feed.passengers)} passengers, {num_passengers} announced"
    )
    sizes = {(row.geometry.crop_h, row.geometry.crop_w) for row in feed.rows}
    assert len(sizes) == 1, "all crops of one feed have one size"
    for kind in feed.passengers:
        assert len(kind) == num_rows, "one array per passenger and row"
        assert len({(a.shape, a.dtype) for a in kind}) == 1, (
            "arrays of one passenger have one shape and dtype"
        )
        assert all(a.flags.c_contiguous for a in kind), (
            "DALI refuses strided arrays: copy windows into a ring first"
        )


def check_pictures(feed: Feed, number: int, name_of: NameOf | None) -> None:
    """Raises BadSample for a picture whose header claims more pixels than are decoded: what is in it takes
    the memory before anybody can look."""
    parts = (("image", feed.encoded), ("label", feed.maps), ("image mixed in", feed.mixed_in))
    for part, pictures in parts:
        for row, encoded in enumerate(pictures):
            try:
                check_picture_size(b"" if encoded is None else encoded.data)
            except TooManyPixels as error:
                raise _too_large(part, error, number, row, name_of) from error


def _too_large(part: str, error: TooManyPixels, number: int, row: int, name_of: NameOf | None) -> BadSample:
    bad_sample = undecodable(part, "", number, row, name_of)
    return BadSample(f"{part} is too large: {error}", where=bad_sample.where, fix=SHRINK)


def find_undecodable(feed: Feed, number: int, name_of: NameOf | None, *, with_maps: bool) -> BadSample | None:
    """The error for the first sample of a batch that Pillow cannot decode either, or whose label is not grey.

    Slow (decodes one by one): called only after the pipeline has failed, which says neither key nor cause.
    """
    for row, encoded in enumerate(feed.encoded):
        reason = _decode_failure(encoded, grey=False)
        if reason:
            return undecodable("image", reason, number, row, name_of)
        reason = _decode_failure(feed.maps[row], grey=True) if with_maps else ""
        if reason:
            return undecodable("label", reason, number, row, name_of)
        mixed_in = feed.mixed_in[row] if feed.mixed_in else None
        reason = "" if mixed_in is None else _decode_failure(mixed_in, grey=False)
        if reason:
            return undecodable("image mixed in", reason, number, row, name_of)
    return None


def explained(
    error: RuntimeError, feed: Feed, number: int, name_of: NameOf | None, *, with_maps: bool
) -> Exception:
    """DALI's failure in the user's words, or the failure itself when no sample is to blame for it."""
    bad_sample = find_undecodable(feed, number, name_of, with_maps=with_maps)
    if bad_sample is not None:
        return bad_sample
    # Pillow reads formats that DALI does not (GIF, grey with alpha): then only DALI's text can tell.
    row = re.search(r"decode sample #(\d+)", str(error))
    if row:
        reason = "DALI cannot read its format"
        return undecodable("image or label", reason, number, int(row[1]), name_of)
    if "nvImageCodec" in str(error):
        rows = range(len(feed.encoded))
        names = [name_of(number, row) if name_of else f"row {row}" for row in rows]
        return BadSample(
            "an image or label has a format that DALI cannot read",
            where=f"batch {number}, one of {', '.join(names)}",
            fix="convert images to JPEG or PNG, labels to 8-bit grey PNG",
        )
    return error


def undecodable(part: str, reason: str, number: int, row: int, name_of: NameOf | None) -> BadSample:
    """The error for one sample: `part` is 'image', 'label' or 'image mixed in'."""
    place = f"row {row} of batch {number}"
    where = f"{name_of(number, row)} ({place})" if name_of else place
    return BadSample(f"{part} cannot be decoded: {reason}", where=where, fix=_FIX)


def _decode_failure(encoded: np.ndarray, *, grey: bool) -> str:
    """Why Pillow cannot decode these bytes, or '' when it can."""
    if not encoded.size:
        return "the file is empty"
    try:
        with Image.open(io.BytesIO(encoded.tobytes())) as image:
            image.load()
            if grey and image.mode != "L":
                return f"its colour mode is '{image.mode}', labels are 8-bit grey PNG"
    except UnidentifiedImageError:  # its own text shows the address of a buffer
        return "not an image of a known format"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return str(error) or type(error).__name__
    return ""


class Spread(NamedTuple):
    """Geometries as arrays, one row a sample: what the pipeline's operators take."""

    roi_start: np.ndarray  # (B, 2) float32, share of the image's height and width
    roi_end: np.ndarray
    size: np.ndarray  # (B, 2) float32 pixels that the region is resized to; DALI takes sizes as floats
    start: np.ndarray  # (B, 2) int32, where the crop starts in the resized region; negative is padding
    shape: np.ndarray  # (B, 2) int32
    flip: np.ndarray  # (B,) int32


def spread(geometry: Sequence[Geometry]) -> Spread:
    """Only the part of the image that the crop shows is resized: a crop at scale 2 shows a small part of it.

    The pipeline crops before it flips, so that it flips the crop and not the whole image: the start of a
    flipped crop is counted from the other side, and padding that will be right lies left of the image (a
    negative start).
    """
    table = np.array(geometry, dtype=np.int32).reshape(-1, len(Geometry._fields))
    resized = table[:, 0:2]
    flip, crop = np.ascontiguousarray(table[:, 2]), table[:, 5:7]
    corner = table[:, 3:5].copy()
    corner[:, 1] = np.where(flip == 1, resized[:, 1] - corner[:, 1] - crop[:, 1], corner[:, 1])
    low = np.maximum(corner, 0)
    high = np.minimum(corner + crop, resized)
    return Spread(
        (low / resized).astype(np.float32),
        (high / resized).astype(np.float32),
        (high - low).astype(np.float32),
        corner - low,
        np.ascontiguousarray(crop),
        flip,
    )


def map_nudge(geometry: Sequence[Geometry]) -> np.ndarray:
    """(B, 2) float32, added to both ends of a map's region: `NUDGE_PX` as a share of the image."""
    resized = np.array([g[:2] for g in geometry], dtype=np.float64).reshape(-1, 2)
    return (NUDGE_PX / resized).astype(np.float32)


def to_mix_in(feed: Feed) -> tuple[object, ...]:
    """Images to mix in and their `spread`: rows without a partner show themselves, which nobody reads."""
    assert feed.mixed_in or not any(row.partner for row in feed.rows), "a partner without its image"
    shown = [row.partner or row for row in feed.rows]
    mixed_in = feed.mixed_in or [None] * len(feed.rows)
    encoded = [own if other is None else other for own, other in zip(feed.encoded, mixed_in, strict=True)]
    return encoded, *spread([row.geometry for row in shown])


def with_effects(rows: Sequence[Row], images_BHWC: Tensor, mixed_BHWC: Tensor | None) -> Tensor:
    """The finished pixels of a batch: partners first get effects of their own, then each row gets its."""
    others = [row.partner.effects if row.partner else () for row in rows] if mixed_BHWC is not None else ()
    return finished(images_BHWC, [row.effects for row in rows], mixed_BHWC, others)


def finished(
    images_BHWC: Tensor,
    effects: Sequence[Sequence[Op]],
    mixed_BHWC: Tensor | None = None,
    mixed_effects: Sequence[Sequence[Op]] = (),
) -> Tensor:
    """`with_effects` of rows whose effects stand in lists of their own; an empty list: no row has any."""
    if mixed_BHWC is not None:
        mixed_BHWC = apply_effects(mixed_BHWC, mixed_effects)
    return apply_effects(images_BHWC, effects, mixed_BHWC)
