"""Streams: the same samples for any world size and from any step on, fresh crops, a live teacher."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from aligned_cache import NEEDS, build_aligned_cache, draw_lossless_folder
from PIL import Image
from tiny_folder import CLASSES, draw_folder
from torch import Tensor

from kdcache.cache.errors import BadOption, BadSample
from kdcache.cache.networks.build import build_network
from kdcache.cache.reader.cache import Cache
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.table import open_source
from kdcache.cache.spec import IGNORE, Need
from kdcache.trainer.stream.batch import Batch, BatchLayout, Stream
from kdcache.trainer.stream.fresh import FRESH_VIEW, FreshStream
from kdcache.trainer.stream.online import OnlineStream
from kdcache.trainer.stream.order import samples_at
from kdcache.trainer.stream.source_samples import SourceSamples
from kdcache.trainer.stream.stored import StoredStream

ONE = BatchLayout(seed=3, global_batch=4)
CROP = (40, 48)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    root = draw_folder(tmp_path_factory.mktemp("fresh") / "data")
    return open_source(f"folder:{root}", "train")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return build_aligned_cache(
        draw_lossless_folder(tmp_path_factory.mktemp("stored") / "data"), "zarr", "crops:2+full"
    )


def take(stream: Stream, count: int, start: int = 0) -> list[Batch]:
    batches = stream.run(start)
    taken = [next(batches) for _ in range(count)]
    stream.close()
    return taken


def same(left: Batch, right: Batch) -> bool:
    return (
        torch.equal(left.images_BHWC, right.images_BHWC)
        and torch.equal(left.truth, right.truth)
        and left[3:5] == right[3:5]
        and torch.equal(left.samples_B, right.samples_B)
        and left.parts.keys() == right.parts.keys()
        and all(
            torch.equal(p, right.parts[n][k]) for n, parts in left.parts.items() for k, p in parts.items()
        )
    )


def fresh(source: Source | Cache, layout: BatchLayout = ONE) -> Stream:
    return FreshStream(source, layout=layout, crop=CROP)


# ---- both kinds of stream


@pytest.mark.parametrize("kind", ["fresh", "crops", "full"])
def test_a_stream_resumed_at_any_step_gives_the_tail_of_an_uninterrupted_one(
    source: Source, cache: Cache, kind: str
) -> None:
    def stream() -> Stream:
        return fresh(source) if kind == "fresh" else StoredStream(cache, needs=NEEDS, layout=ONE, views=kind)

    whole = take(stream(), 6)
    for start in (1, 4):
        tail = take(stream(), 6 - start, start)
        assert all(same(a, b) for a, b in zip(whole[start:], tail, strict=True))


@pytest.mark.parametrize("kind", ["fresh", "crops", "full"])
def test_ranks_and_accumulation_split_the_same_global_batch(source: Source, cache: Cache, kind: str) -> None:
    def stream(layout: BatchLayout) -> Stream:
        if kind == "fresh":
            return fresh(source, layout)
        return StoredStream(cache, needs=NEEDS[1:2], layout=layout, views=kind)

    whole = take(stream(ONE), 2)
    pieces = [
        take(stream(replace(ONE, world=2, rank=r, accumulation=2)), 4) for r in range(2)
    ]  # one sample each
    for step in range(2):
        order = [pieces[r][2 * step + a] for a in range(2) for r in range(2)]
        assert torch.equal(torch.cat([p.images_BHWC for p in order]), whole[step].images_BHWC)
        assert torch.equal(torch.cat([p.truth for p in order]), whole[step].truth)
        for part, values in whole[step].parts.get("stage4", {}).items():
            assert torch.equal(torch.cat([p.parts["stage4"][part] for p in order]), values)


@pytest.mark.parametrize("kind", ["fresh", "stored"])
def test_what_a_run_records_of_its_stream_is_plain_json(source: Source, cache: Cache, kind: str) -> None:
    stream = fresh(source) if kind == "fresh" else StoredStream(cache, needs=NEEDS[:1], layout=ONE)
    assert json.loads(json.dumps(stream.describe())) == stream.describe()
    assert stream.describe()["views"] == kind
    if kind == "stored":
        entries = stream.describe()["entries"]
        assert isinstance(entries, dict)
        assert set(entries) == {"cache", "samples", "views/0", "tap/stage1"}  # what was read, nothing else


def test_a_batch_may_be_kept_while_the_stream_goes_on(cache: Cache) -> None:
    # Windows are copied into a ring that later batches overwrite: what was handed out must not change.
    stream = StoredStream(cache, needs=NEEDS, layout=ONE, views="full")
    batches = stream.run()
    first = next(batches)
    kept = first.parts["stage4"]["values"].clone()
    for _ in range(8):
        next(batches)
    stream.close()
    assert torch.equal(first.parts["stage4"]["values"], kept)


# ---- fresh views


def test_every_epoch_draws_new_crops_of_each_sample(source: Source) -> None:
    stream = FreshStream(source, layout=ONE, crop=CROP)
    views = {stream.geometry(0, epoch) for epoch in range(20)}
    assert len(views) == 20
    assert stream.geometry(0, 7) == FreshStream(source, layout=ONE, crop=CROP).geometry(0, 7)


def test_fresh_labels_follow_the_crop_of_their_image(source: Source) -> None:
    stream = FreshStream(source, layout=ONE, crop=(80, 104), augment="scale=1x1,flip")
    for batch in take(stream, 3):
        placed = samples_at(
            ONE.seed, ONE.positions(batch.micro_step), num_samples=6, shard_samples=1
        )  # a full shuffle
        for place, (sample, epoch) in enumerate(zip(placed.samples, placed.epochs, strict=True)):
            g = stream.geometry(int(sample), int(epoch))
            label = np.asarray(Image.open(io.BytesIO(source.label_bytes(int(sample)))))
            wanted = np.full((80, 104), IGNORE, dtype=np.uint8)
            wanted[: label.shape[0], : label.shape[1]] = label[:, ::-1] if g.flip else label
            assert np.array_equal(batch.truth[place].numpy(), wanted)


def test_fresh_views_never_repeat_a_stored_one(cache: Cache) -> None:
    assert FRESH_VIEW > 1 << 16
    stream = FreshStream(cache, layout=replace(ONE, seed=0), crop=CROP)
    stored = {cache.geometry(0, view) for view in range(2)}
    assert not stored & {stream.geometry(0, epoch) for epoch in range(10)}


def test_a_caches_own_samples_can_be_seen_fresh_and_its_invalid_ones_are_left_out(cache: Cache) -> None:
    stream = fresh(cache)
    assert stream.num_samples == 7
    assert all(b.images_BHWC.shape == (4, *CROP, 3) for b in take(stream, 4))
    assert stream.targets(take(stream, 1)[0]) == {}


def test_labels_are_converted_once_while_there_is_room(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted: list[int] = []
    honest = type(source).label_bytes
    monkeypatch.setattr(type(source), "label_bytes", lambda self, i: converted.append(i) or honest(self, i))
    first_bytes = len(honest(source, 0))
    samples = SourceSamples(source, label_memo_bytes=first_bytes)
    for _ in range(3):
        samples.truth(0)
        samples.truth(1)
    assert converted == [0, 1, 1, 1]


def test_an_image_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "data", count=2)
    broken = root / "train" / "images" / "scene01.jpg"
    samples = SourceSamples(open_source(f"folder:{root}", "train"))
    broken.write_bytes(b"not an image")
    with pytest.raises(BadSample, match="image of 'scene01' cannot be read") as error:
        samples.size(1)
    assert str(broken) in str(error.value)


def test_an_image_damaged_behind_its_header_is_named_by_its_key(tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "data", count=2)
    broken = root / "train" / "images" / "scene01.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:400])
    with pytest.raises(BadSample, match="scene01"):
        take(fresh(open_source(f"folder:{root}", "train")), 2)


# ---- a live teacher


def halved(value_BCHW: Tensor) -> Tensor:
    """A reduction that a need can name."""
    return value_BCHW.mean(dim=(2, 3)) / 2


def test_a_live_teacher_answers_in_evaluation_mode_without_gradient_in_float32(source: Source) -> None:
    teacher = build_network("tiny_teacher:make", task="segmentation", num_classes=len(CLASSES))
    live = OnlineStream(fresh(source), teacher, NEEDS[1:], "cpu", amp=torch.bfloat16)
    batch = take(live, 1)[0]
    teacher.train()
    targets = live.targets(batch)
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    assert {n: (t.dtype, t.requires_grad) for n, t in targets.items()} == {
        "stage4": (torch.float32, False),
        "logits": (torch.float32, False),
    }
    exact = teacher(batch.images_BHWC, ["stage4"])["stage4"]
    assert (
        0 < (targets["stage4"] - exact).abs().max() < 0.1 * exact.abs().max()
    )  # bf16 was used, then float32
    assert live.describe()["targets"] == "online" and live.describe()["amp"] == "bfloat16"


def test_a_live_teacher_applies_the_reduction_that_a_need_names(source: Source) -> None:
    teacher = build_network("tiny_teacher:make", task="segmentation", num_classes=len(CLASSES))
    need = Need(tap="stage4", reduction=f"{__name__}:halved")
    live = OnlineStream(fresh(source), teacher, [need], "cpu")
    batch = take(live, 1)[0]
    wanted = halved(teacher(batch.images_BHWC, ["stage4"])["stage4"])
    assert torch.equal(live.targets(batch)["stage4.halved"], wanted)


def test_a_live_teacher_without_the_tap_is_refused_before_any_batch(source: Source) -> None:
    teacher = build_network("tiny_teacher:make", task="segmentation", num_classes=len(CLASSES))
    with pytest.raises(BadOption, match="unknown tap 'stage5'"):
        OnlineStream(fresh(source), teacher, [Need(tap="stage5")], "cpu")
    with pytest.raises(BadOption, match="reduction 'nowhere:mean' cannot be found"):
        OnlineStream(fresh(source), teacher, [Need(tap="stage4", reduction="nowhere:mean")], "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_pixels_and_parts_arrive_on_the_device(source: Source) -> None:
    batch = take(FreshStream(source, layout=ONE, crop=CROP, device_id=0), 1)[0]
    assert batch.images_BHWC.device.type == batch.truth.device.type == "cuda"
