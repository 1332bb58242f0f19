"""The omni-contrast against slow loops, its blocks against the direct form, and its region of the map."""

import math

import pytest
import torch
from torch import Tensor

from kdcache.cache.spec import BadOption, TensorSpec
from kdcache.losses.contract import Maps
from kdcache.losses.dense import afdcd_contrast
from kdcache.losses.dense.afdcd import DenseContrast
from kdcache.losses.dense.afdcd_contrast import (
    Region,
    block_contrast,
    contrast_region,
    omni_contrast,
    patch_vectors,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_contrast(
    student: Tensor, teacher: Tensor, tau: float, groups: int, patch: tuple[int, int], same_group: bool
) -> float:
    """The formula of the specification, one number at a time."""
    num_images, channels, height, width = student.shape
    depth = channels // groups
    total = 0.0

    def vector(source: Tensor, b: int, y: int, x: int, m: int) -> list[float]:
        return source[b, m * depth : (m + 1) * depth, y, x].tolist()

    for b in range(num_images):
        for y in range(height):
            for x in range(width):
                top, left = y // patch[0] * patch[0], x // patch[1] * patch[1]
                cells = [(top + i, left + j) for i in range(patch[0]) for j in range(patch[1])]
                for m in range(groups):
                    anchor = vector(student, b, y, x, m)
                    sums = {}
                    for cell in cells:
                        for other in range(groups):
                            key = vector(teacher, b, *cell, other)
                            sums[cell, other] = sum(abs(p - q) for p, q in zip(anchor, key, strict=True))
                    own = math.exp(-sums[(y, x), m] / tau)
                    rest = sum(
                        math.exp(-d / tau)
                        for (cell, other), d in sums.items()
                        if other != m or (same_group and cell != (y, x))
                    )
                    total -= math.log(own / (own + rest))
    return total / (num_images * height * width)


@pytest.mark.parametrize("negatives", ["groups", "all"])
@pytest.mark.parametrize(("groups", "patch"), [(3, (2, 2)), (2, (1, 3)), (1, (2, 3)), (6, (1, 1))])
def test_the_contrast_is_the_formula_written_out(groups: int, patch: tuple[int, int], negatives: str) -> None:
    student, teacher = drawn(2, 6, 4, 6, seed=1), drawn(2, 6, 4, 6, seed=2)
    loss = omni_contrast(student, teacher, tau=0.7, groups=groups, patch=patch, negatives=negatives)  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(
        slow_contrast(student, teacher, 0.7, groups, patch, negatives == "all"), rel=1e-12
    )


def test_one_group_has_no_negatives_and_gives_zero() -> None:
    assert (
        omni_contrast(drawn(1, 4, 4, 4), drawn(1, 4, 4, 4, seed=1), tau=0.1, groups=1, patch=(2, 2)).item()
        == 0
    )


@pytest.mark.parametrize("block_bytes", [1, 40_000, 1 << 25])
def test_blocks_of_patches_give_the_direct_form_and_its_gradient(
    block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(afdcd_contrast.BLOCK_BYTES, "cpu", block_bytes)
    student, teacher = drawn(2, 12, 8, 12).requires_grad_(), drawn(2, 12, 8, 12, seed=1)
    blocks = omni_contrast(student, teacher, tau=0.3, groups=4, patch=(4, 4))
    counted = afdcd_contrast._counted(4, 16, "groups", student.device)
    direct = block_contrast(
        patch_vectors(student, 4, (4, 4)), patch_vectors(teacher, 4, (4, 4)), counted, 0.3
    ) / (2 * 96)
    torch.testing.assert_close(blocks, direct, rtol=1e-12, atol=0)
    (slope,), (wanted,) = torch.autograd.grad(2 * blocks, student), torch.autograd.grad(2 * direct, student)
    torch.testing.assert_close(slope, wanted, rtol=1e-10, atol=1e-14)


def test_blocks_follow_the_bytes_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = torch.zeros(100, 64, 8)
    monkeypatch.setitem(afdcd_contrast.BLOCK_BYTES, "cpu", 5 * 64 * 64 * 4)
    assert afdcd_contrast._patches_per_block(vectors) == 5


def test_the_contrast_has_no_gradient_to_make_without_one() -> None:
    with torch.no_grad():
        assert not omni_contrast(
            drawn(1, 4, 4, 4), drawn(1, 4, 4, 4), tau=0.1, groups=2, patch=(2, 2)
        ).requires_grad


def test_distances_that_overflow_half_precision_stay_finite() -> None:
    student = torch.full((1, 256, 2, 2), 50.0, dtype=torch.float16)
    teacher = torch.zeros(1, 256, 2, 2, dtype=torch.float16)
    teacher[:, 128:] = 25.0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        contrast = omni_contrast(student, teacher, tau=0.07, groups=2, patch=(2, 2))
    assert contrast.dtype == torch.float32
    # One group is 6400 from its own vector and 3200 from four others; the second group is at rest.
    assert contrast.item() == pytest.approx(3200 / 0.07 + math.log(4), rel=1e-7)


@pytest.mark.parametrize(
    ("size", "pool", "fit", "expected"),
    [
        ((45, 45), 0, "cut", Region(0, 44, 44)),  # CamVid as published
        ((64, 128), 4, "exact", Region(4, 16, 32)),  # Cityscapes as published
        ((64, 64), "auto", "cut", Region(4, 16, 16)),
        ((63, 128), "auto", "cut", Region(0, 60, 128)),
        ((90, 90), "auto", "cut", Region(4, 20, 20)),
        ((11, 15), "auto", "cut", Region(0, 8, 12)),
    ],
)
def test_the_region_is_the_published_one_or_the_largest_legal(
    size: tuple[int, int], pool: int, fit: str, expected: Region
) -> None:
    assert contrast_region(*size, pool=pool, patch=(4, 4), fit=fit) == expected  # type: ignore[arg-type]


def test_a_map_smaller_than_a_patch_is_refused_with_its_sizes() -> None:
    with pytest.raises(BadOption) as caught:
        contrast_region(3, 15, pool=0, patch=(4, 4), fit="cut")
    assert caught.value.what == "the 3x15 map is smaller than one 4x4 patch"
    assert caught.value.where == "loss term 'afdcd'"
    assert (
        caught.value.fix
        == "use a larger crop or a smaller --output-stride, or a smaller patch such as afdcd(patch=3)"
    )
    with pytest.raises(
        BadOption, match="the 12x12 map, 3x3 after pooling by 4, is smaller than one 4x4 patch"
    ):
        contrast_region(12, 12, pool=4, patch=(4, 4), fit="cut")


def test_published_settings_on_another_crop_are_refused_with_the_way_to_cut() -> None:
    with pytest.raises(BadOption) as caught:
        contrast_region(45, 45, pool=4, patch=(4, 4), fit="exact")
    assert (
        caught.value.what == "the 45x45 map, 11x11 after pooling by 4, is not a whole number of 4x4 patches"
    )
    assert caught.value.fix == "use the published crop, or afdcd(fit=cut) to contrast its first 8x8 cells"


def test_channels_that_do_not_split_into_groups_are_refused_with_a_number_that_does() -> None:
    spec = {"stage4": TensorSpec((8, 8, 30), 8)}
    with pytest.raises(BadOption) as caught:
        DenseContrast(Maps(spec, spec), groups=16)
    assert caught.value.what == "30 teacher channels do not split into 16 equal groups"
    assert caught.value.fix == "for example afdcd(groups=15)"


def afdcd(**options: object) -> DenseContrast:
    spec = {"stage4": TensorSpec((8, 8, 32), 8)}
    return DenseContrast(Maps(spec, spec), **options)  # type: ignore[arg-type]


def test_the_modes_are_the_omni_form_with_other_patches_and_negatives() -> None:
    student, teacher = drawn(2, 32, 8, 8, seed=1), drawn(2, 32, 8, 8, seed=2)
    channel = omni_contrast(student, teacher, tau=0.07, groups=16, patch=(1, 1))
    assert afdcd(mode="channel").contrast(student, teacher).item() == channel.item()
    spatial = afdcd(mode="spatial", tau=2.0, patch=(2, 2)).contrast(student, teacher).item()
    assert spatial == pytest.approx(slow_contrast(student, teacher, 2.0, 1, (2, 2), True), rel=1e-12)
    assert spatial > 0, "the published class without negatives would give 0"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (
            {"mode": "channel", "patch": (2, 2)},
            "mode=channel contrasts within single cells, not within 2x2 patches",
        ),
        ({"mode": "spatial", "groups": 8}, "mode=spatial contrasts whole vectors, not 8 groups"),
        ({"mode": "spatial", "patch": (1, 1)}, "mode=spatial finds no negative in a patch of 1x1 cells"),
    ],
)
def test_an_option_that_contradicts_its_mode_is_refused(options: dict[str, object], what: str) -> None:
    with pytest.raises(BadOption) as caught:
        afdcd(**options)
    assert caught.value.what == what
    assert caught.value.where == "loss term 'afdcd'"
    assert "afdcd(" in caught.value.fix


def test_the_gradient_of_the_contrast_is_that_of_its_value() -> None:
    student, teacher = drawn(1, 4, 2, 4, seed=1).requires_grad_(), drawn(1, 4, 2, 4, seed=2)
    for negatives in ("groups", "all"):
        assert torch.autograd.gradcheck(
            lambda s, n=negatives: omni_contrast(s, teacher, tau=1.0, groups=2, patch=(2, 2), negatives=n),
            (student,),
        )
