"""One cache, one precision: it is part of the name, and whatever is added later has it too."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_folder import draw_folder

from kdcache.cache.build.build import BuildEvents, BuildReport, build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.build.plan import make_plan
from kdcache.cache.errors import BadOption
from kdcache.cache.look.verify import deep_check
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.tasks.table import SEGMENTATION

TEACHER = "exact_teachers:make_rounder"
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def options(tmp_path: Path, **changes: object) -> BuildOptions:
    base = BuildOptions(
        runs_dir=tmp_path / "runs",
        caches_dir=tmp_path / "caches",
        teacher=TEACHER,
        data=f"folder:{tmp_path / 'data'}",
        views="crops:1",
        crop=(16, 24),
        taps=(parse_tap("pixels=fp32"),),
        batch_size=2,
        shard_rows=2,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def data(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "data", count=4)


def build(tmp_path: Path, **changes: object) -> BuildReport:
    return build_cache(options(tmp_path, **changes))


def grow(tmp_path: Path, root: Path, **changes: object) -> BuildReport:
    """As a user grows a cache: by its name, without a word about precision."""
    return build(tmp_path, **({"cache": root, "views": None, "crop": None, "shard_rows": None} | changes))


def targets_of(cache: Cache) -> torch.Tensor:
    """Every stored number of every tap, view and sample."""
    rows = [
        cache.parts(tap, index, view)["values"]
        for tap in cache.manifest.tap_names
        for view in range(cache.manifest.num_views)
        for index in range(cache.num_samples)
    ]
    return torch.stack([torch.from_numpy(row.copy()) for row in rows])


def share_in(values: torch.Tensor, dtype: torch.dtype) -> float:
    """How many of the float32 numbers are numbers of `dtype` too. A convolution in it gives no others."""
    return (values == values.to(dtype).float()).float().mean().item()


def add_views(tmp_path: Path, root: Path) -> None:
    assert grow(tmp_path, root, views="crops:2").rows == 4


def add_a_tap(tmp_path: Path, root: Path) -> None:
    assert grow(tmp_path, root, taps=(parse_tap("again=fp32"),)).rows == 4


def add_samples(tmp_path: Path, root: Path) -> None:
    draw_folder(tmp_path / "data", count=6)
    assert grow(tmp_path, root).rows == 2


def lose_and_repair_a_shard(tmp_path: Path, root: Path) -> None:
    (first,) = (root / "targets.zarr").rglob("c/0/1/0/0/0")
    first.write_bytes(b"torn")
    assert grow(tmp_path, root, repair=True).rows == 2


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
@pytest.mark.parametrize("more", [add_views, add_a_tap, add_samples, lose_and_repair_a_shard])
def test_what_is_added_without_amp_is_computed_in_the_caches_precision(
    tmp_path: Path, amp: str, more: object
) -> None:
    root = build(tmp_path, amp=amp).root
    assert callable(more)
    more(tmp_path, root)
    assert share_in(targets_of(open_cache(root)), TYPES[amp]) == 1
    assert open_cache(root).manifest.precision == amp


def test_a_build_that_died_goes_on_in_the_caches_precision(tmp_path: Path) -> None:
    def die(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(options(tmp_path, amp="bf16"), BuildEvents(computed=die))
    (root,) = (tmp_path / "caches").iterdir()
    assert grow(tmp_path, root).rows > 0
    assert share_in(targets_of(open_cache(root)), torch.bfloat16) == 1


@pytest.mark.parametrize("amp", [None, "no"])
def test_without_amp_a_teacher_computes_in_float32(tmp_path: Path, amp: str | None) -> None:
    report = build(tmp_path, amp=amp)
    add_views(tmp_path, report.root)
    assert all(share_in(targets_of(open_cache(report.root)), dtype) < 0.5 for dtype in TYPES.values())
    assert report.manifest.precision == "fp32"


def test_caches_of_one_teacher_in_several_precisions_have_several_names(tmp_path: Path) -> None:
    plans = {amp: make_plan(options(tmp_path, amp=amp)) for amp in (None, "no", "bf16", "fp16")}
    assert plans[None].root == plans["no"].root
    assert len({plan.root for plan in plans.values()}) == 3
    assert [plan.manifest.precision for plan in plans.values()] == ["fp32", "fp32", "bf16", "fp16"]


def test_the_same_command_with_another_amp_builds_beside_and_not_into_the_first(tmp_path: Path) -> None:
    first = build(tmp_path)
    assert build(tmp_path, amp="bf16").rows == first.rows == 4
    assert share_in(targets_of(open_cache(first.root)), torch.bfloat16) < 0.5


@pytest.mark.parametrize(
    ("built", "asked", "text"),
    [
        (None, "bf16", "the cache was built with --amp no, not bf16"),
        ("bf16", "no", "the cache was built with --amp bf16, not no"),
        ("bf16", "fp16", "the cache was built with --amp bf16, not fp16"),
    ],
)
def test_growing_in_another_precision_is_refused(
    tmp_path: Path, built: str | None, asked: str, text: str
) -> None:
    report = build(tmp_path, amp=built)
    with pytest.raises(BadOption, match=text) as caught:
        grow(tmp_path, report.root, amp=asked, views="crops:2")
    assert caught.value.where == f"cache {report.root.name}"
    assert "leave --amp out" in caught.value.fix
    assert caught.value.fix.endswith(
        f": kdcache build --teacher {TEACHER} --data folder:{tmp_path / 'data'} --amp {asked}"
    )


def test_a_command_that_repeats_the_caches_own_precision_is_followed(tmp_path: Path) -> None:
    root = build(tmp_path, amp="bf16").root
    assert grow(tmp_path, root, amp="bf16", views="crops:2").rows == 4


def test_an_unknown_precision_lists_the_legal_ones(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="'bf8' is no precision") as caught:
        options(tmp_path, amp="bf8")
    assert caught.value.fix == "legal: no, bf16, fp16"


@pytest.mark.parametrize("amp", ["no", "bf16", "fp16"])
def test_a_deep_check_finds_the_targets_that_the_precision_gave(tmp_path: Path, amp: str) -> None:
    root = build(tmp_path, amp=amp).root
    network = resolve_teacher(TEACHER, tmp_path, task=SEGMENTATION, num_classes=3)[0]
    (error,) = deep_check(root, network, num_rows=4)
    assert error.rows == 4 and error.max_abs <= error.bound
