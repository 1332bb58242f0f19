"""The pipeline defines the pixels: right at every geometry, the same in every batch.

Small images, small pipelines; one DALI pipeline takes about 0.05 s to build.
"""

import io
import itertools

import numpy as np
import pytest
import torch
import xxhash
from encoded_images import CELL, HEIGHT, WHOLE, WIDTH, encode, noise, painted, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kdcache.cache.errors import BadSample
from kdcache.cache.images.effects import apply_effects
from kdcache.cache.images.feed import PIPELINE_VERSION, Feed, ImageBatch, pixel_digests
from kdcache.cache.images.pipeline import ImagePipeline, pipeline_facts
from kdcache.cache.spec import FILL_RGB, IGNORE
from kdcache.cache.views.draw import draw_crop
from kdcache.cache.views.view import Geometry, Op, Row


def through(
    images: list[np.ndarray],
    labels: list[np.ndarray],
    geometry: list[Geometry],
    *,
    batch_size: int | None = None,
    num_threads: int = 1,
) -> list[ImageBatch]:
    """All samples through one pipeline, `batch_size` at a time (default: one batch)."""
    size = batch_size or len(images)

    def feed(number: int) -> Feed | None:
        part = slice(number * size, (number + 1) * size)
        if not images[part]:
            return None
        return Feed(rows_of(*geometry[part]), images[part], maps=labels[part])

    pipeline = ImagePipeline(feed, batch_size=size, with_maps=True, num_threads=num_threads)
    batches = list(pipeline.run())
    pipeline.close()
    return batches


def pixels(
    image: np.ndarray, label: np.ndarray, geometry: list[Geometry]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """One image in several geometries, each its own batch (their crops differ)."""
    several = len(geometry)
    batches = through([image] * several, [label] * several, geometry, batch_size=1)
    pairs = []
    for batch in batches:
        assert batch.maps_BHW is not None
        pairs.append((batch.images_BHWC[0].numpy(), batch.maps_BHW[0].numpy()))
    return pairs


# ---- pixels ------------------------------------------------------------------------------------------------


def test_at_scale_one_image_and_label_come_out_bit_for_bit() -> None:
    image, label = noise(), noise(1)[..., 0].copy()
    label.flat[:256] = np.arange(256)  # every value, 255 included
    ((found_image, found_label),) = pixels(encode(image), encode(label), [WHOLE])
    assert np.array_equal(found_image, image) and found_image.dtype == np.uint8
    assert np.array_equal(found_label, label) and found_label.dtype == np.uint8


def test_crop_flip_and_padding_are_those_of_plain_slicing() -> None:
    image, label = noise(), noise(1)[..., 0].copy()
    geometry = [
        Geometry(HEIGHT, WIDTH, flip, y, x, 40, 50)
        for flip, y, x in itertools.product((0, 1), (0, 7, HEIGHT - 20), (0, 9, WIDTH - 1))
    ]
    for (found_image, found_label), g in zip(
        pixels(encode(image), encode(label), geometry), geometry, strict=True
    ):
        whole_image, whole_label = (image[:, ::-1], label[:, ::-1]) if g.flip else (image, label)
        want_image = np.full((40, 50, 3), FILL_RGB, dtype=np.uint8)
        want_label = np.full((40, 50), IGNORE, dtype=np.uint8)
        shown = np.s_[g.crop_y : g.crop_y + 40, g.crop_x : g.crop_x + 50]
        height, width = whole_label[shown].shape
        want_image[:height, :width], want_label[:height, :width] = whole_image[shown], whole_label[shown]
        assert np.array_equal(found_image, want_image), g
        assert np.array_equal(found_label, want_label), g


def test_flipping_the_flipped_image_gives_the_image_back() -> None:
    image, label = noise(), noise(1)[..., 0]
    flipped = WHOLE._replace(flip=1)
    ((once, once_label),) = pixels(encode(image), encode(label), [flipped])
    ((twice, twice_label),) = pixels(encode(once), encode(once_label), [flipped])
    assert np.array_equal(twice, image) and np.array_equal(twice_label, label)


@settings(max_examples=25, deadline=None)
@given(number=st.integers(0, 10**6), crop=st.sampled_from([(48, 48), (33, 57), (130, 190)]))
def test_image_and_label_stay_aligned_at_any_scale_flip_and_crop(number: int, crop: tuple[int, int]) -> None:
    view = draw_crop(seed=3, key="k", number=number, height=HEIGHT, width=WIDTH, crop=crop)
    g = view.geometry(HEIGHT, WIDTH)
    image, label = painted()
    ((image_out, cells),) = pixels(encode(image), encode(label), [g])
    height, width = min(crop[0], g.resize_h - g.crop_y), min(crop[1], g.resize_w - g.crop_x)
    # Where each output pixel's centre lies in the stored image, by the published formula.
    x, y = np.arange(g.resize_w), np.arange(g.resize_h)
    source_x = np.clip((x + 0.5) * WIDTH / g.resize_w - 0.5, 0, WIDTH - 1)[:: -1 if g.flip else 1]
    source_y = np.clip((y + 0.5) * HEIGHT / g.resize_h - 0.5, 0, HEIGHT - 1)
    source_x = source_x[g.crop_x : g.crop_x + width]
    source_y = source_y[g.crop_y : g.crop_y + height]
    shown = image_out[:height, :width].astype(float)
    assert np.abs(shown[..., 0] - 2 * source_x[None, :]).max() <= 0.51
    assert np.abs(shown[..., 1] - 2 * source_y[:, None]).max() <= 0.51
    # The label's cell must hold the very place that the image shows; half a pixel is the nearest rule's own.
    row, column = np.divmod(cells[:height, :width].astype(float), WIDTH // CELL)
    for cell, place in ((column, source_x[None, :]), (row, source_y[:, None])):
        assert (place >= cell * CELL - 0.51).all() and (place <= cell * CELL + CELL - 0.49).all()
    assert (image_out[height:] == FILL_RGB).all() and (image_out[:, width:] == FILL_RGB).all()
    assert (cells[height:] == IGNORE).all() and (cells[:, width:] == IGNORE).all()


def test_pixels_do_not_depend_on_batch_size_or_threads() -> None:
    smooth = [
        np.asarray(Image.fromarray(noise(i)[:8, :11]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
        for i in range(7)
    ]
    images = [encode(s, "JPEG", quality=90, subsampling=2 * (i % 2)) for i, s in enumerate(smooth)]
    labels = [encode(noise(i)[..., 0]) for i in range(7)]
    geometry = [
        draw_crop(seed=0, key="k", number=n, height=HEIGHT, width=WIDTH, crop=(40, 40)).geometry(
            HEIGHT, WIDTH
        )
        for n in range(7)
    ]
    outcomes = []
    for batch_size, num_threads in ((1, 1), (3, 1), (7, 1), (1, 3), (3, 2), (7, 3)):
        batches = through(images, labels, geometry, batch_size=batch_size, num_threads=num_threads)
        digests = [int(d) for b in batches for d in pixel_digests(b.images_BHWC)]
        outcomes.append((digests, torch.cat([b.maps_BHW for b in batches if b.maps_BHW is not None])))
    assert len(set(outcomes[0][0])) == 7
    for digests, maps_BHW in outcomes[1:]:
        assert digests == outcomes[0][0] and torch.equal(maps_BHW, outcomes[0][1])


def test_a_rotation_noted_in_exif_does_not_turn_the_image_away_from_its_label() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees": photo tools obey, labels were drawn without
    image = encode(painted()[0], "JPEG", quality=95, exif=exif.tobytes())
    ((image_out, _),) = pixels(image, encode(painted()[1]), [WHOLE])
    assert np.abs(image_out[..., 0].astype(int) - painted()[0][..., 0]).max() < 12


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P"])
def test_images_of_other_colour_modes_come_out_as_rgb(mode: str) -> None:
    picture = Image.fromarray(painted()[0]).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG" if mode in ("L", "CMYK") else "PNG")
    ((image_out, _),) = pixels(np.frombuffer(buffer.getvalue(), np.uint8), encode(painted()[1]), [WHOLE])
    buffer.seek(0)
    want = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
    assert image_out.shape == want.shape and np.abs(image_out - want).max() <= 3


def test_the_digest_of_pixels_is_fixed_for_good_because_caches_hold_one_of_every_row() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    seed = xxhash.xxh3_64_intdigest(b"(2, 3, 3)")
    digests = pixel_digests(torch.from_numpy(np.stack([image, 255 - image])))
    wanted = [xxhash.xxh3_64_intdigest(one.tobytes(), seed) for one in (image, 255 - image)]
    assert digests.tolist() == wanted and digests.dtype == np.uint64
    assert digests[0] == 0x68579B956C3F6607


def test_the_digest_changes_with_one_pixel_and_with_the_shape_alone() -> None:
    images = torch.from_numpy(np.stack([noise(), noise()]))
    images[1, 5, 6, 2] ^= 1
    first, second = pixel_digests(images)
    assert first != second
    assert pixel_digests(images[:1].reshape(1, WIDTH, HEIGHT, 3))[0] != first  # the same bytes in their order
    assert pixel_digests(images[:1].transpose(1, 2))[0] != first


def test_a_row_has_one_digest_whatever_lies_around_it() -> None:
    images = torch.from_numpy(np.stack([noise(n) for n in range(4)]))
    alone = [int(pixel_digests(images[n : n + 1])[0]) for n in range(4)]
    assert pixel_digests(images).tolist() == alone and len(set(alone)) == 4
    assert pixel_digests(images[::2]).tolist() == alone[::2]  # a batch that is no one piece of memory
    turned = torch.rot90(images, 1, (1, 2))
    assert pixel_digests(turned).tolist() == pixel_digests(turned.contiguous()).tolist()


def test_what_the_pixels_depend_on_is_recorded() -> None:
    facts = pipeline_facts(None)
    assert facts["pipeline_version"] == PIPELINE_VERSION
    assert facts["decoder"] == "dali cpu" and facts["device"] == "cpu" and str(facts["dali"])[0].isdigit()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_pipeline_gives_equal_pixels_in_every_batch() -> None:
    images = [encode(noise(i), "JPEG", quality=90) for i in range(6)]
    digests = []
    for size in (1, 3, 6):

        def feed(number: int, size: int = size) -> Feed | None:
            rows = images[number * size : (number + 1) * size]
            labels = [encode(painted()[1])] * len(rows)
            arrays = [[np.full((2, 3), number, np.float16)] * len(rows)]
            shown = rows_of(*[WHOLE] * len(rows))
            return Feed(shown, rows, maps=labels, passengers=arrays) if rows else None

        pipeline = ImagePipeline(feed, batch_size=size, with_maps=True, num_passengers=1, device_id=0)
        batches = list(pipeline.run())
        assert all(b.images_BHWC.is_cuda and b.passengers[0].is_cuda for b in batches)
        for batch in batches:
            assert batch.maps_BHW is not None
            assert np.array_equal(batch.maps_BHW[0].cpu().numpy(), painted()[1])
        digests.append([int(d) for b in batches for d in pixel_digests(b.images_BHWC)])
    assert digests[0] == digests[1] == digests[2]


# ---- effects -----------------------------------------------------------------------------------------------

SQUARE = Geometry(HEIGHT, WIDTH, 0, -3, 5, 40, 40)
EFFECTS: list[tuple[Op, ...]] = [
    (("contrast", 1300), ("hue", 60), ("mixup", 300, "b")),
    (("turn", 1),),
    (),
    (("equalize",), ("cutmix", 3, 4, 20, 30, "b")),
    (("rotate", 12_000), ("erase", 1, 2, 9, 9, 0, 0, 0), ("mixup", 1000, "b")),
]


def mixed(row: int) -> Row:
    """Row i of EFFECTS, mixed with sample i + 1 as that looks flipped and in grey; row 2 with nobody."""
    own = Row(row, 0, SQUARE, EFFECTS[row])
    other = Row((row + 1) % len(EFFECTS), 0, SQUARE._replace(flip=1), (("saturation", 0),))
    return own if row == 2 else own.mixed_with(other)


def with_effects(order: list[int], batch_size: int, num_threads: int = 1) -> dict[int, torch.Tensor]:
    """Row -> pixels, the rows sent in `order`."""
    encoded = [encode(noise(i), "JPEG", quality=90) for i in range(len(EFFECTS))]

    def feed(number: int) -> Feed | None:
        rows = [mixed(row) for row in order[number * batch_size : (number + 1) * batch_size]]
        partners = [row.partner for row in rows]
        return (
            Feed(
                rows,
                [encoded[row.sample] for row in rows],
                [None if other is None else encoded[other.sample] for other in partners],
            )
            if rows
            else None
        )

    pipeline = ImagePipeline(
        feed, batch_size=batch_size, with_maps=False, mixes=True, num_threads=num_threads
    )
    pixels = torch.cat([b.images_BHWC for b in pipeline.run()])
    return dict(zip(order, pixels, strict=True))


def test_pixels_with_effects_do_not_depend_on_batch_size_threads_or_order_of_rows() -> None:
    wanted = with_effects([0, 1, 2, 3, 4], 5)
    for order, size, threads in (([0, 1, 2, 3, 4], 1, 1), ([4, 2, 0, 3, 1], 2, 2), ([3, 1, 4, 0, 2], 5, 2)):
        same = with_effects(order, size, threads)
        assert all(torch.equal(same[row], wanted[row]) for row in range(5))


def test_effects_and_partners_are_executed_on_the_crops() -> None:
    mixed_rows = with_effects([0, 1, 2, 3, 4], 5)
    plain = [
        through([encode(noise(i), "JPEG", quality=90)], [encode(painted()[1])], [g])[0].images_BHWC[0]
        for i in range(5)
        for g in (SQUARE, SQUARE._replace(flip=1))
    ]
    own, flipped = plain[::2], plain[1::2]
    assert torch.equal(mixed_rows[1], torch.rot90(own[1], 1, (0, 1)))
    assert torch.equal(mixed_rows[2], own[2])
    assert (mixed_rows[2][:3] == torch.tensor(FILL_RGB)).all()  # a negative start is padding above
    grey = apply_effects(flipped[4][None].clone(), [(("saturation", 0),)])[0]
    assert torch.equal(mixed_rows[3][3:23, 4:34], grey[3:23, 4:34])
    changed = apply_effects(own[0][None].clone(), [EFFECTS[0][:2]])[0].int()
    other = apply_effects(flipped[1][None].clone(), [(("saturation", 0),)])[0].int()
    assert (mixed_rows[0].int() - (0.3 * changed + 0.7 * other)).abs().max() <= 0.51


def test_a_partner_that_cannot_be_decoded_is_named_with_the_row_it_was_for() -> None:
    broken = np.frombuffer(b"no image", np.uint8)
    own = Row(1, 0, SQUARE, (("mixup", 5, "b"),))
    rows, good = [Row(0, 0, SQUARE), own.mixed_with(Row(2, 0, SQUARE))], encode(noise())

    def feed(number: int) -> Feed:
        return Feed(rows, [good] * 2, [None, broken])

    pipeline = ImagePipeline(feed, batch_size=2, with_maps=False, mixes=True, name_of=lambda n, r: f"key-{r}")
    with pytest.raises(BadSample, match="image mixed in cannot be decoded") as caught:
        next(pipeline.run())
    assert caught.value.where == "key-1 (row 1 of batch 0)"
