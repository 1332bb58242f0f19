"""Effects on pixels: identities, exactness, torchvision's formulas, and rows that do not see each other."""

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional

from kdcache.cache.images.effects import apply_effects
from kdcache.cache.spec import FILL_RGB
from kdcache.cache.views.view import Op

SIDE = 24


def images(count: int = 4, seed: int = 0) -> Tensor:
    """Noise, smooth, dark and grey pictures (B, H, W, 3): each has something that the others lack."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    smooth = np.stack([10 * x, 10 * y, 5 * (x + y)], -1)
    noise = rng.integers(0, 256, (SIDE, SIDE, 3))
    kinds = [noise, smooth, noise // 4 + 20, np.repeat(noise[..., :1], 3, -1)]
    return torch.from_numpy(np.stack([kinds[i % 4] for i in range(count)]).astype(np.uint8))


def done(op: Op, pixels: Tensor | None = None, partners: Tensor | None = None) -> Tensor:
    pixels = images() if pixels is None else pixels
    return apply_effects(pixels.clone(), [(op,)] * len(pixels), partners)


NOTHING: list[Op] = [
    *((name, 1000) for name in ("brightness", "contrast", "saturation", "sharpness")),
    *((name, 0) for name in ("hue", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "turn")),
    ("posterize", 8),
    ("solarize", 256),
    ("erase", 3, 3, 0, 5, 1, 2, 3),
    ("mixup", 1000, "b"),
    ("cutmix", 3, 3, 5, 0, "b"),
]


@pytest.mark.parametrize("op", NOTHING, ids=str)
def test_a_number_that_changes_nothing_changes_no_pixel(op: Op) -> None:
    assert torch.equal(done(op, partners=255 - images()), images())


def test_batches_without_effects_are_not_even_copied() -> None:
    pixels = images()
    assert apply_effects(pixels, [(), (), (), ()]) is pixels and apply_effects(pixels, []) is pixels


def test_four_quarter_turns_are_the_image_and_one_is_counter_clockwise() -> None:
    assert torch.equal(apply_effects(images(), [(("turn", 1),) * 4] * 4), images())
    assert torch.equal(done(("turn", 1))[0], torch.from_numpy(np.rot90(images()[0].numpy()).copy()))
    assert torch.equal(done(("turn", 3)), apply_effects(images(), [(("turn", 1), ("turn", 2))] * 4))
    assert torch.equal(done(("rotate", 90_000)), done(("turn", 1)))


@pytest.mark.parametrize(
    ("op", "oracle", "near"),
    [
        (("brightness", 1400), lambda p: functional.adjust_brightness(p, 1.4), 1),
        (("brightness", 300), lambda p: functional.adjust_brightness(p, 0.3), 1),
        (("contrast", 1700), lambda p: functional.adjust_contrast(p, 1.7), 2),
        (("contrast", 200), lambda p: functional.adjust_contrast(p, 0.2), 2),
        (("saturation", 1900), lambda p: functional.adjust_saturation(p, 1.9), 2),
        (("saturation", 0), lambda p: functional.adjust_saturation(p, 0.0), 1),
        (("sharpness", 1900), lambda p: functional.adjust_sharpness(p, 1.9), 2),
        (("hue", 100), lambda p: functional.adjust_hue(p, 0.1), 1),
        (("hue", -500), lambda p: functional.adjust_hue(p, -0.5), 1),
        (("posterize", 4), lambda p: functional.posterize(p, 4), 0),
        (("solarize", 100), lambda p: functional.solarize(p, 100), 0),
        (("autocontrast",), functional.autocontrast, 1),
        (("equalize",), functional.equalize, 0),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),  # no address: workers compare names
)
def test_colours_are_those_of_torchvision(op: Op, oracle: object, near: int) -> None:
    wanted = oracle(images().permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # type: ignore[operator]
    assert (done(op).int() - wanted.int()).abs().max() <= near


@pytest.mark.parametrize(
    ("op", "angle", "translate", "shear"),
    [
        (("rotate", 30_000), -30.0, [0, 0], [0.0, 0.0]),
        (("translate_x", 250), 0.0, [6, 0], [0.0, 0.0]),
        (("translate_y", -125), 0.0, [0, -3], [0.0, 0.0]),
        (("shear_x", 270), 0.0, [0, 0], [float(np.degrees(np.arctan(0.27))), 0.0]),
        (("shear_y", 270), 0.0, [0, 0], [0.0, float(np.degrees(np.arctan(0.27)))]),
    ],
    ids=str,
)
def test_shapes_are_those_of_torchvision_up_to_ties_of_the_nearest_pixel(
    op: Op, angle: float, translate: list[int], shear: list[float]
) -> None:
    wanted = functional.affine(
        images().permute(0, 3, 1, 2), angle, translate, 1.0, shear, fill=list(FILL_RGB)
    ).permute(0, 2, 3, 1)
    same = (done(op) == wanted).all(-1).float().mean()
    assert same > 0.97


def test_an_erased_rectangle_has_its_colour_and_the_rest_is_as_it_was() -> None:
    erased, wanted = done(("erase", 2, 5, 4, 6, 9, 8, 7)), images()
    wanted[:, 2:6, 5:11] = torch.tensor([9, 8, 7], dtype=torch.uint8)
    assert torch.equal(erased, wanted)


def test_mixup_weighs_both_images_and_cutmix_pastes_the_partners_rectangle() -> None:
    own, other = images(), images(seed=5).flip(0)
    exact = (own.int() * 300 + other.int() * 700).float() / 1000
    assert (done(("mixup", 300, "b"), own, other).float() - exact).abs().max() <= 0.5
    assert torch.equal(done(("mixup", 0, "b"), own, other), other)
    wanted = own.clone()
    wanted[:, 1:4, 20:24] = other[:, 1:4, 20:24]
    assert torch.equal(done(("cutmix", 1, 20, 3, 4, "b"), own, other), wanted)


_number = st.integers(0, 2000)
_colour = st.one_of(
    st.tuples(st.sampled_from(["brightness", "contrast", "saturation", "sharpness"]), _number),
    st.tuples(st.just("hue"), st.integers(-500, 500)),
    st.tuples(st.sampled_from(["shear_x", "shear_y", "translate_x", "translate_y"]), st.integers(-400, 400)),
    st.tuples(st.just("rotate"), st.integers(-30_000, 30_000)),
    st.tuples(st.just("posterize"), st.integers(0, 8)),
    st.tuples(st.just("solarize"), st.integers(0, 256)),
    st.tuples(st.just("turn"), st.integers(0, 3)),
    st.sampled_from([("autocontrast",), ("equalize",), ("erase", 1, 2, 9, 9, 1, 2, 3)]),
)
_mixing = st.one_of(
    st.just(()),
    st.tuples(st.tuples(st.just("mixup"), st.integers(0, 1000), st.just("b"))),
    st.just((("cutmix", 3, 4, 10, 12, "b"),)),
)
_effects = st.builds(lambda ops, mix: (*ops, *mix), st.lists(_colour, max_size=4), _mixing)
# Two rows and more with every effect that looks at a whole image, whatever chance draws besides.
_LOOK_AROUND: list[tuple[Op, ...]] = [
    (("contrast", amount), ("autocontrast",), ("equalize",), ("sharpness", amount), ("rotate", 9 * amount))
    for amount in (300, 700, 1300, 1700)
]


@settings(max_examples=30, deadline=None)
@example(_LOOK_AROUND, Random(0))
@given(st.lists(_effects, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_a_rows_pixels_depend_neither_on_the_other_rows_nor_on_their_order(
    effects: list[tuple[Op, ...]], random: object
) -> None:
    count = len(effects)
    own, other = images(count), images(count, seed=3)
    together = apply_effects(own.clone(), effects, other)
    order = list(range(count))
    random.shuffle(order)  # type: ignore[attr-defined]
    mixed_up = apply_effects(own[order], [effects[i] for i in order], other[order])
    assert torch.equal(mixed_up, together[order])
    for row in range(count):
        alone = apply_effects(own[row : row + 1].clone(), effects[row : row + 1], other[row : row + 1])
        assert torch.equal(alone[0], together[row])


def test_one_and_two_threads_give_the_same_pixels() -> None:
    big = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 300, 300, 3)).astype(np.uint8))
    ops: tuple[Op, ...] = (
        ("contrast", 1300),
        ("hue", 77),
        ("equalize",),
        ("sharpness", 300),
        ("rotate", 7_000),
    )
    answers = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            answers.append(apply_effects(big.clone(), [ops, ops]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*answers)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["contrast", "hue", "sharpness", "rotate", "shear_x"])
def test_a_gpu_gives_the_pixels_of_the_cpu(name: str) -> None:
    op: Op = (name, 321)
    assert torch.equal(apply_effects(images().cuda(), [(op,)] * 4).cpu(), done(op))
