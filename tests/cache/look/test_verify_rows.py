"""Rows against what made them: the teacher's answers within their bound, the teacher's pixels to the bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from cache_scene import draw_scene
from torch import nn

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import parse_tap
from kdcache.cache.look.teacher import manifest_teacher
from kdcache.cache.look.verify import deep_check, pixel_check
from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.views.view import Row


@pytest.fixture
def teacher(tiny_cache: Path) -> Network:
    return manifest_teacher(tiny_cache, tiny_cache / "runs", None, "tiny_teacher:make")


# ---- targets


def test_stored_targets_are_within_the_stated_bound_of_the_teacher(
    tiny_cache: Path, teacher: Network
) -> None:
    errors = deep_check(tiny_cache, teacher, num_rows=4)
    assert [(error.target, error.rows, error.beyond) for error in errors] == [
        ("stage4", 4, ()),
        ("logits", 4, ()),
    ]
    assert all(0 < error.max_abs <= error.bound * 1.001 and error.relative_l2 < 0.01 for error in errors)


def shifted(monkeypatch: pytest.MonkeyPatch, target: str, index: int) -> None:
    """One cell of one row, by a tenth of what the codec spans; every digest fits."""
    honest = Cache.parts

    def parts(self: Cache, name: str, sample: int, view: int) -> dict[str, np.ndarray]:
        stored = honest(self, name, sample, view)
        if (name, sample) != (target, index):
            return stored
        changed = {part: value.copy() for part, value in stored.items()}
        cell = changed["values"][0, 0]
        cell[...] = np.where(cell < 128, cell + 26, cell - 26)
        return changed

    monkeypatch.setattr(Cache, "parts", parts)


@pytest.mark.parametrize("index", [0, 3])
def test_one_wrong_number_is_beyond_the_bound_and_its_row_and_tap_are_named(
    tiny_cache: Path, teacher: Network, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    shifted(monkeypatch, "stage4", index)
    stage4, logits = deep_check(tiny_cache, teacher, num_rows=8)
    cache = open_cache(tiny_cache)
    assert stage4.beyond == tuple(
        f"{cache.key(sample)} view {view}" for sample, view in cache.stored_rows(8) if sample == index
    )
    assert stage4.beyond and logits.beyond == () and stage4.max_abs > stage4.bound


def test_a_target_of_another_row_is_beyond_the_bound(
    tiny_cache: Path, teacher: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Cache.parts
    monkeypatch.setattr(Cache, "parts", lambda self, t, index, view: honest(self, t, index ^ 1, view))
    for error in deep_check(tiny_cache, teacher, num_rows=4):
        assert len(error.beyond) == 4 and error.max_abs > 3 * error.bound


class Moved(nn.Module):
    """A teacher whose answers are larger by a share of the largest."""

    def __init__(self, teacher: Network, share: float) -> None:
        super().__init__()
        self.teacher, self.share = teacher, share

    def forward(self, images_BHWC: torch.Tensor, taps: list[str]) -> dict[str, torch.Tensor]:
        values: dict[str, torch.Tensor] = self.teacher(images_BHWC, taps)
        return {tap: value + self.share * value.abs().max() for tap, value in values.items()}


def test_rounding_of_another_batch_size_is_no_finding_and_ten_times_of_it_is(
    tmp_path: Path, teacher: Network
) -> None:
    """A codec without loss has a bound of 0, and sums in another order give another last place."""
    scene = draw_scene(tmp_path, "zarr")
    build_cache(scene.options(taps=(parse_tap("logits=fp32"),)))
    for share, beyond in ((0.0, 0), (5e-6, 0), (5e-5, 2)):
        (error,) = deep_check(scene.cache, Moved(teacher, share), num_rows=2)  # type: ignore[arg-type]
        assert error.bound == 0 and len(error.beyond) == beyond


def test_a_teacher_in_training_mode_is_checked_in_evaluation_mode(tiny_cache: Path, teacher: Network) -> None:
    class Dropping(nn.Module):
        """The teacher, with its answers gone while it trains."""

        def forward(self, images_BHWC: torch.Tensor, taps: list[str]) -> dict[str, torch.Tensor]:
            values: dict[str, torch.Tensor] = teacher(images_BHWC, taps)
            return {tap: value * (not self.training) for tap, value in values.items()}

    errors = deep_check(tiny_cache, Dropping().train(), num_rows=1)  # type: ignore[arg-type]
    assert all(error.max_abs <= error.bound * 1.001 for error in errors)


# ---- pixels


def test_the_pixels_of_every_row_are_made_again(tiny_cache: Path) -> None:
    seen: list[int] = []
    assert list(pixel_check(open_cache(tiny_cache), seen=lambda: seen.append(1))) == []
    assert len(seen) == 4 * 2


@pytest.mark.parametrize(("index", "view"), [(0, 0), (2, 1), (3, 1)])
def test_a_row_with_other_pixels_is_named_and_no_other(tiny_cache: Path, index: int, view: int) -> None:
    cache = open_cache(tiny_cache)
    views = cache.block_views(index // 2, view)
    pixels = views.pixels.copy()
    pixels[index % 2] ^= 1
    cache._views[index // 2, view] = views._replace(pixels=pixels)
    assert [tuple(row) for row in pixel_check(cache)] == [(cache.key(index), view)]


def test_a_crop_that_moved_by_one_pixel_is_found(tiny_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Cache.row

    def row(self: Cache, index: int, view: int) -> Row:
        seen = honest(self, index, view)
        geometry = seen.geometry._replace(crop_x=seen.geometry.crop_x + 1)
        return seen._replace(geometry=geometry) if (index, view) == (1, 0) else seen

    monkeypatch.setattr(Cache, "row", row)
    assert [tuple(row) for row in pixel_check(open_cache(tiny_cache))] == [("scene01", 0)]
