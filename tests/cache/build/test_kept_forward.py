"""What decides the last bits of an answer is kept: rows at a time, and the memory format."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from class_data import draw_imagefolder
from plain_weights import save_file
from torch import Tensor, nn

from kdcache.cache.build import build as builds
from kdcache.cache.build.build import BuildReport, build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.build.stages import batch_size
from kdcache.cache.build.stages.batch_size import candidates, chosen_batch_size
from kdcache.cache.build.targets import TargetBuilder
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.command import repeat_words
from kdcache.cache.record.manifest import Manifest, manifest_from, plain_manifest

CPU = torch.device("cpu")


@pytest.fixture
def options(tmp_path: Path) -> BuildOptions:
    data = draw_imagefolder(tmp_path / "data")
    torch.manual_seed(0)
    classes = len([folder for folder in (data / "train").iterdir() if folder.is_dir()])
    weights = tmp_path / "teacher.safetensors"
    save_file(build_network("resnet8", task="classification", num_classes=classes).state_dict(), weights)
    return BuildOptions(
        runs_dir=tmp_path / "runs", caches_dir=tmp_path / "caches", teacher="resnet8", weights=str(weights),
        data=f"imagefolder:{data}", views="crops:1", crop=(32, 32), taps=(parse_tap("logits=fp32"),),
        batch_size=3,
    )  # fmt: skip


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Batch size and memory format of every pass over missing targets."""
    seen: list[tuple[int, str]] = []
    run = TargetBuilder.run

    def noted(self: TargetBuilder, *given: object) -> None:
        seen.append((self.batch_size, self.network.memory_format))
        run(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(TargetBuilder, "run", noted)
    return seen


def kept(report: BuildReport) -> Manifest:
    return open_cache(report.root).manifest


def damaged(root: Path) -> Path:
    path = next(path for path in (root / "targets.zarr").rglob("c/0/0/*") if path.is_file())
    path.write_bytes(b"torn")
    return path


def test_who_repairs_and_who_grows_takes_the_batch_size_that_was_kept(
    options: BuildOptions, used: list[tuple[int, str]]
) -> None:
    root = build_cache(options).root
    assert open_cache(root).manifest.forward == {"batch_size": 3, "memory_format": "channels_last"}
    content = (path := damaged(root)).read_bytes()
    again = replace(options, batch_size=None, repair=True)
    report = build_cache(again)
    assert report.generation == 1 and path.read_bytes() != content, "the very bytes that were recorded"
    assert build_cache(replace(options, batch_size=None, views="crops:2")).rows
    assert used == [(3, "channels_last")] * 3


def test_a_cache_of_before_goes_on_contiguous_and_says_no_more_than_it_did(
    options: BuildOptions, used: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr("kdcache.cache.build.plan._forward", lambda *given: {})
        first = kept(build_cache(options))
    assert first.forward == {} and "forward" not in plain_manifest(first)
    grown = kept(build_cache(replace(options, views="crops:2", batch_size=None)))
    assert grown.forward == {} and used[1:] == [(8, "contiguous")]


def test_few_rows_make_no_trial(options: BuildOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(builds, "chosen_batch_size", lambda *given, **more: asked.append(1) or 64)
    assert kept(build_cache(replace(options, batch_size=None))).batch_size == 8 and not asked


def test_many_rows_are_tried_and_the_choice_is_kept_and_typed_again(
    options: BuildOptions, monkeypatch: pytest.MonkeyPatch, used: list[tuple[int, str]]
) -> None:
    monkeypatch.setattr(builds, "TRIAL_ROWS", 1)
    monkeypatch.setattr(builds, "chosen_batch_size", lambda *given, **more: 5)
    manifest = kept(build_cache(replace(options, batch_size=None)))
    assert manifest.batch_size == 5 and used == [(5, "channels_last")]
    (words,) = repeat_words(manifest)
    assert words[words.index("--batch-size") + 1] == "5"


@pytest.mark.parametrize(
    "forward",
    [{"batch_size": 0, "memory_format": "contiguous"}, {"batch_size": 8, "memory_format": "odd"}, {"a": 1}],
)
def test_a_manifest_that_claims_something_else_is_none(options: BuildOptions, forward: object) -> None:
    plain = plain_manifest(kept(build_cache(options)))
    with pytest.raises(ValueError, match=r"forward|batch_size|memory_format"):
        manifest_from(plain | {"forward": forward})


class Clocked(nn.Module):
    """Takes so many seconds for so many rows, by a clock of its own."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        super().__init__()
        self.seconds, self.now_s, self.most = seconds, 0.0, 0
        self.layer = nn.Identity()

    def forward(self, images_BHWC: Tensor, taps: object) -> dict[str, Tensor]:
        self.now_s += self.seconds(len(images_BHWC))
        self.most = max(self.most, len(images_BHWC))
        return {"logits": self.layer(images_BHWC.float()).flatten(1)[:, :4]}


def trial(seconds: Callable[[int], float], memory_bytes: int = 1 << 40) -> tuple[int, Clocked]:
    network = Clocked(seconds)
    size = chosen_batch_size(
        network,  # type: ignore[arg-type]
        ("logits",),
        (8, 8),
        memory_bytes=memory_bytes,
        device=CPU,
        clock=lambda: network.now_s,
    )
    return size, network


def test_the_fastest_size_wins_and_a_larger_one_must_be_worth_it() -> None:
    assert trial(lambda rows: 1e-4 * (1 + rows))[0] == 32, "64 rows are less than 3 % faster"
    assert trial(lambda rows: 1e-4 * rows)[0] == 8
    assert trial(lambda rows: 1e-5 * rows * (1 + abs(rows - 32)))[0] == 32


def test_a_trial_stays_within_memory_and_time() -> None:
    row_bytes = 8 * 8 * 3 * 4 + 16
    size, network = trial(lambda rows: 1e-4, memory_bytes=batch_size.SHARE * row_bytes * 20)
    assert size == 16 and network.most == 16
    size, network = trial(lambda rows: 2.0)
    assert network.most == 8, "no further size once the time is over"


def test_a_trial_leaves_the_network_as_it_was() -> None:
    network: Network = build_network("resnet8", task="classification", num_classes=4)
    size = chosen_batch_size(network, ("logits",), (32, 32), memory_bytes=1 << 20, device=CPU)
    assert size == 8 and not any(module._forward_hooks for module in network.modules())


def test_a_gpu_is_tried_with_more_rows() -> None:
    """Its trial is short, and few rows leave most of it idle."""
    on_gpu = candidates(torch.device("cuda"))
    assert on_gpu[: len(candidates(CPU))] == candidates(CPU) and on_gpu[-1] == 4 * candidates(CPU)[-1]
