"""What goes into the image pipeline and what comes out, without the pipeline: light to import, no DALI.

Legend: B batch, H W height and width of the crop in pixels.
"""

import io
import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from kdcache.cache.errors import BadSample
from kdcache.cache.images.effects import apply_effects
from kdcache.cache.views.view import Geometry, Op

# Grows whenever the same bytes and the same view would give other pixels: part of a cache's identity.
PIPELINE_VERSION = 2
# Nearest sampling at half or double size falls exactly between two label pixels; float32 would decide by its
# rounding error. A thousandth of a pixel to the right and down decides it the same way everywhere.
NUDGE_PX = 1e-3

NameOf = Callable[[int, int], str]  # (batch number, row) -> what to call that sample in an error
_FIX = (
    "replace the file by one that opens in an image viewer, or build with --skip-bad to leave the sample out"
)


class Partner(NamedTuple):
    """What is mixed into a row: another sample in its own view, without that view's mixing."""

    encoded: np.ndarray
    geometry: Geometry
    effects: tuple[Op, ...]


class Feed(NamedTuple):
    """One batch before decoding. Every list has B entries, B <= the pipeline's batch size.

    Arrays are C-contiguous and may be read-only views of a mapped file; they are not copied on the way in.
    An array of feed n must stay unchanged until feed n + prefetch + 2 is asked for (a ring of that many
    buffers is enough). All geometries of one feed have the same crop_h and crop_w, because the output is
    dense.
    """

    encoded: list[np.ndarray]  # B x (num_bytes,) uint8: JPEG or PNG as the source has it
    labels: list[
        np.ndarray
    ]  # B x (num_bytes,) uint8: an 8-bit grey PNG; empty when the pipeline has no labels
    geometry: list[Geometry]
    passengers: list[
        list[np.ndarray]
    ]  # per kind B arrays of one shape, of any dtype; they pass through untouched
    effects: Sequence[tuple[Op, ...]] = ()  # per row what follows the crop; none at all is cheapest
    partners: Sequence[Partner | None] = ()  # per row, for a pipeline that mixes


class ImageBatch(NamedTuple):
    """One decoded batch. The tensors own their memory: they never change and may be held for any time."""

    images_BHWC: Tensor  # uint8 RGB
    labels_BHW: Tensor | None  # uint8 train ids, 255 = ignore
    passengers: list[Tensor]  # per kind (B, *shape)


def pixel_digest(images_BHWC: Tensor) -> list[str]:
    """16 hex digits per sample over its shape and pixels: equal digests mean equal input of the network."""
    digests = []
    for image_HWC in images_BHWC.cpu().contiguous().numpy():
        digest = blake2b(repr(image_HWC.shape).encode(), digest_size=8)
        digest.update(image_HWC)
        digests.append(digest.hexdigest())
    return digests


def check_feed(feed: Feed, *, batch_size: int, with_labels: bool, num_passengers: int) -> None:
    """Asserts what the docstring of Feed promises: to break it is a bug of ours, not a user's error."""
    num_samples = len(feed.encoded)
    assert 0 < num_samples <= batch_size, f"a feed of {num_samples} samples for batch size {batch_size}"
    assert len(feed.geometry) == num_samples, "one geometry per sample"
    assert not with_labels or len(feed.labels) == num_samples, "one label per sample"
    assert len(feed.effects) in (0, num_samples), "effects for every row or for none"
    assert len(feed.partners) in (0, num_samples), "a partner or None for every row, or none at all"
    assert len(feed.passengers) == num_passengers, (
        f"{len(feed.passengers)} passengers, {num_passengers} announced"
    )
    assert len({(g.crop_h, g.crop_w) for g in feed.geometry}) == 1, "all crops of one feed have one size"
    for kind in feed.passengers:
        assert len(kind) == num_samples, "one array per passenger and sample"
        assert len({(a.shape, a.dtype) for a in kind}) == 1, (
            "arrays of one passenger have one shape and dtype"
        )
        assert all(a.flags.c_contiguous for a in kind), (
            "DALI refuses strided arrays: copy windows into a ring first"
        )


def find_undecodable(
    feed: Feed, number: int, name_of: NameOf | None, *, with_labels: bool
) -> BadSample | None:
    """The error for the first sample of a batch that Pillow cannot decode either, or whose label is not grey.

    Slow (decodes one by one): called only after the pipeline has failed, which says neither key nor cause.
    """
    for row, encoded in enumerate(feed.encoded):
        reason = _decode_failure(encoded, grey=False)
        if reason:
            return undecodable("image", reason, number, row, name_of)
        reason = _decode_failure(feed.labels[row], grey=True) if with_labels else ""
        if reason:
            return undecodable("label", reason, number, row, name_of)
        partner = feed.partners[row] if feed.partners else None
        reason = _decode_failure(partner.encoded, grey=False) if partner else ""
        if reason:
            return undecodable("image mixed in", reason, number, row, name_of)
    return None


def explained(
    error: RuntimeError, feed: Feed, number: int, name_of: NameOf | None, *, with_labels: bool
) -> Exception:
    """DALI's failure in the user's words, or the failure itself when no sample is to blame for it."""
    found = find_undecodable(feed, number, name_of, with_labels=with_labels)
    if found is not None:
        return found
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


def label_nudge(geometry: Sequence[Geometry]) -> np.ndarray:
    """(B, 2) float32, added to both ends of a label's region: `NUDGE_PX` as a share of the image."""
    resized = np.array([g[:2] for g in geometry], dtype=np.float64).reshape(-1, 2)
    return (NUDGE_PX / resized).astype(np.float32)


def mixed_in(feed: Feed) -> tuple[object, ...]:
    """Images to mix in and their `spread`: rows without a partner show themselves, which nobody reads."""
    partners = feed.partners or [None] * len(feed.encoded)
    own = zip(feed.encoded, feed.geometry, strict=True)
    found = [p or Partner(*pair, ()) for p, pair in zip(partners, own, strict=True)]
    return [p.encoded for p in found], *spread([p.geometry for p in found])


def with_effects(feed: Feed, images_BHWC: Tensor, mixed_BHWC: Tensor | None) -> Tensor:
    """The finished pixels of a feed: partners first get effects of their own, then each row gets its."""
    if mixed_BHWC is not None:
        mixed_BHWC = apply_effects(mixed_BHWC, [p.effects if p else () for p in feed.partners])
    return apply_effects(images_BHWC, feed.effects, mixed_BHWC)
