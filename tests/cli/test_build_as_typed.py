"""`kdcache build`: what is typed reaches the builder, and what is not typed is built as the help says."""

from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result
from tiny_folder import draw_folder

from kdcache.cache.build.build import BuildReport
from kdcache.cache.build.options import BuildOptions, TapRequest
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.cli.kdcache import main as kdcache


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(*arguments: str) -> Result:
    return CliRunner().invoke(kdcache, ["build", *arguments])


@pytest.fixture
def asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[BuildOptions]:
    """What the builder was asked; nothing is built."""
    heard: list[BuildOptions] = []
    draw_folder(home / "d", count=2)

    def listen(options: BuildOptions, events: object) -> BuildReport:
        heard.append(options)
        root, manifest = home / "caches" / "c", cast(Manifest, None)
        return BuildReport(root, manifest, shards=2, rows=48, skipped=(), generation=1, settled=True)

    monkeypatch.setattr("kdcache.cache.build.build.build_cache", listen)
    return heard


TYPED: list[tuple[list[str], str, object]] = [
    (["--mean"], "mean", True),
    (["--data", "folder:d"], "data", "folder:d"),
    (["--split", "trainval"], "split", "trainval"),
    (["--tap", "stage4@a.b=fp16"], "taps", (TapRequest("stage4", "a.b", "fp16"),)),
    (["--tap", "neck", "--tap", "logits"], "taps", (TapRequest("neck"), TapRequest("logits"))),
    (["--views", "full"], "views", "full"),
    (["--augment", "pad=4,flip"], "augment", "pad=4,flip"),
    (["--mirror"], "mirror", True),
    (["--crop", "32,48"], "crop", (32, 48)),
    (["--format", "webdataset"], "target_format", "webdataset"),
    (["--zstd"], "zstd", True),
    (["--batch-size", "3"], "batch_size", 3),
    (["--amp", "bf16"], "amp", "bf16"),
    (["--device", "cpu"], "device", "cpu"),
    (["--shard-rows", "7"], "shard_rows", 7),
    (["--memory", "1.5M"], "memory_bytes", 1_572_864),
    (["--threads", "2"], "threads", 2),
    (["--output-stride", "16"], "output_stride", 16),
    (["--weights", "w.pt"], "weights", "w.pt"),
    (["--seed", "5"], "seed", 5),
    (["--skip-bad"], "skip_bad", True),
    (["--update"], "update", True),
    (["--repair"], "repair", True),
    (["--check"], "check", True),
]


@pytest.mark.parametrize(("arguments", "field", "value"), TYPED, ids=lambda one: str(one)[:30])
def test_an_option_of_build_reaches_the_builder_and_changes_nothing_else(
    asked: list[BuildOptions], arguments: list[str], field: str, value: object
) -> None:
    assert build("--teacher", "r18", "--device", "cpu", *arguments).exit_code == 0
    assert build("--teacher", "r18", "--device", "cpu").exit_code == 0
    with_it, without = ({name: getattr(one, name) for name in one.__slots__} for one in asked)
    assert with_it == {**without, field: value} and (without[field] != value or field == "device")


def test_build_works_in_the_home_folder_on_the_teacher_that_was_typed(
    asked: list[BuildOptions], home: Path
) -> None:
    build("--teacher", "r18,r34")
    assert (asked[0].teacher, asked[0].cache) == ("r18,r34", None)
    assert (asked[0].runs_dir, asked[0].caches_dir) == (home / "runs", home / "caches")
    assert asked[0].needs_of is None


def test_for_asks_for_the_needs_of_every_loss_and_commas_in_brackets_separate_options(
    asked: list[BuildOptions],
) -> None:
    build("--teacher", "r18", "--for", "mgd(mask_ratio=0.5,cwd=0), kd,cirkd(tau=1,pool=2)")
    assert asked[0].needs_of is not None
    assert {need.name for need in asked[0].needs_of(SEGMENTATION)} == {"stage4", "logits", "neck"}


@pytest.mark.parametrize(("cuda", "device"), [(False, "cpu"), (True, "cuda")])
def test_a_device_that_nobody_typed_is_the_gpu_where_there_is_one(
    asked: list[BuildOptions], monkeypatch: pytest.MonkeyPatch, cuda: bool, device: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    build("--teacher", "r18")
    assert asked[0].device == device


def test_build_says_how_many_rows_it_wrote_and_where_and_a_second_rank_says_nothing(
    asked: list[BuildOptions], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    assert "wrote 48 rows; the cache is" in build("--teacher", "r18").output
    monkeypatch.setenv("RANK", "1")
    assert build("--teacher", "r18").output == ""


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--memory", "much"], ["'much' is no size", "--memory much", "512M, 4G or 1.5G"]),
        (["--memory", "0"], ["'0' is no size", "--memory 0", "512M, 4G or 1.5G"]),
        (["--shard-rows", "0"], ["'0' is no count above 0", "--shard-rows 0", "whole number, or auto"]),
        (["--device", "tpu"], ["no device 'tpu'", "--device tpu", "auto, cpu, cuda or cuda:N"]),
        (["--device", "cuda:1"], ["torch sees no CUDA device", "--device cuda:1", "--device auto or cpu"]),
        (["--tap", "a=b=c d"], ["is not a tap", "--tap", "NAME=CODEC"]),
        (["--crop", "big"], ["--crop cannot be big", "--crop big", "H,W in pixels"]),
        (["--cache", "gone"], ["there is no cache 'gone'", "caches", "caches there: none"]),
    ],
)
def test_a_value_that_build_cannot_use_is_answered_in_three_parts_with_status_2(
    asked: list[BuildOptions], monkeypatch: pytest.MonkeyPatch, arguments: list[str], parts: list[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = build("--teacher", "r18", *arguments)
    assert result.exit_code == 2 and asked == [] and result.stdout == ""
    what, where, fix = result.stderr.strip().split("\n")
    assert what.startswith("error: ") and where.startswith("  where: ") and fix.startswith("  fix: ")
    assert all(part in line for part, line in zip(parts, (what, where, fix), strict=True)), result.stderr


def test_ctrl_c_ends_a_build_with_130_and_says_that_the_same_command_continues(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kdcache.cache.build.build.build_cache", interrupted)
    result = build("--teacher", "r18")
    assert result.exit_code == 130 and "the same command continues" in result.stderr


def test_a_fault_of_the_program_keeps_its_traceback(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("kdcache.cache.build.build.build_cache", broken)
    result = build("--teacher", "r18")
    assert isinstance(result.exception, ZeroDivisionError) and result.exit_code == 1


def test_a_build_without_options_keeps_what_the_help_says(home: Path) -> None:
    draw_folder(home / "drawn", count=2)
    typed = ["--teacher", "tiny_teacher:make", "--data", "folder:drawn", "--crop", "32"]
    built = build(*typed)
    assert built.exit_code == 0, built.output
    again = build(*typed)
    assert again.exit_code == 0 and "nothing to do" in again.output, again.output
    (root,) = (home / "caches").iterdir()
    manifest = open_cache(root).manifest
    assert {tap.name: tap.codec for tap in manifest.taps} == {"stage4": "int8", "logits": "fp16"}
    assert (manifest.target_format, manifest.zstd, manifest.precision) == ("zarr", False, "fp32")
    assert manifest.num_views == 8 and [views.kind for views in manifest.views] == ["crops"]
    assert (manifest.data["split"], manifest.views[0].seed) == ("train", 0)
