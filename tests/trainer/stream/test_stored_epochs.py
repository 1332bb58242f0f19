"""The epoch of a cached batch: how often its samples were seen before, which is what schedules go by."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from aligned_cache import NEEDS, build_aligned_cache, draw_lossless_folder
from fake_run import CONFIG, export

from kdcache.cache.networks.build import build_network
from kdcache.cache.reader.cache import Cache
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.plan.plan import parse_losses
from kdcache.trainer.folder.metrics_log import read_metrics
from kdcache.trainer.loop import train
from kdcache.trainer.steps.contract import RunParts
from kdcache.trainer.stream.batch import Batch, BatchLayout, Stream
from kdcache.trainer.stream.fresh import FreshStream
from kdcache.trainer.stream.stored import StoredStream

NUM_VALID, BATCH = 7, 4  # eight samples, one cannot be read: batches straddle epochs
CROP = (40, 48)
STEPS = 8  # 32 positions: four epochs and a part


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = draw_lossless_folder(tmp_path_factory.mktemp("epochs") / "data")
    return build_aligned_cache(folder, "zarr", "crops:1+full")


def open_stream(cache: Cache, kind: str, layout: BatchLayout) -> Stream:
    if kind == "fresh":
        return FreshStream(cache, layout=layout, crop=CROP)
    return StoredStream(cache, needs=NEEDS[2:], layout=layout, views=kind)


def take(stream: Stream, count: int, start: int = 0) -> Iterator[Batch]:
    batches = stream.run(start)
    try:
        yield from (next(batches) for _ in range(count))
    finally:
        stream.close()


@pytest.mark.parametrize("kind", ["crops", "full", "fresh"])
def test_the_epoch_of_a_batch_is_how_often_its_first_sample_was_seen_before(cache: Cache, kind: str) -> None:
    seen: Counter[int] = Counter()
    counted = []
    for batch in take(open_stream(cache, kind, BatchLayout(seed=3, global_batch=BATCH)), STEPS):
        counted.append(seen[int(batch.samples_B[0])])
        seen.update(batch.samples_B.tolist())
        assert batch.epoch == counted[-1]
    assert counted == [0, 0, 1, 1, 2, 2, 3, 4]  # of positions 0, 4, 8 ... 28, seven to an epoch
    assert len(seen) == NUM_VALID


@pytest.mark.parametrize("kind", ["crops", "full"])
def test_ranks_and_resumed_runs_are_in_the_epoch_of_their_own_first_position(cache: Cache, kind: str) -> None:
    layouts = [BatchLayout(seed=3, global_batch=BATCH, world=2, rank=rank, accumulation=2) for rank in (0, 1)]
    start, epochs = 3, {}
    for rank, layout in enumerate(layouts):
        for batch in take(open_stream(cache, kind, layout), 12, start):
            epochs[batch.micro_step, rank] = batch.epoch
    # One sample each: micro step n of rank r is position 2 n + r.
    assert epochs == {(n, r): (2 * n + r) // NUM_VALID for n in range(start, start + 12) for r in (0, 1)}


def parts_on(cache: Cache, loss: str) -> Any:
    """A run of a small student on the cache, with the real streams, losses and steps."""

    def assemble(accelerator: Accelerator) -> RunParts:
        torch.manual_seed(0)
        plan = parse_losses(loss, preset=None, task=SEGMENTATION)
        student = build_network("tiny_teacher:make", task=SEGMENTATION, num_classes=3, role="student")
        with torch.no_grad():  # unlike the teacher, whose factory it has
            for parameter in student.parameters():
                parameter.mul_(2)
        teacher = {need.name: cache.tap(need.name).spec(*CROP) for need in plan.needs}
        return RunParts(
            student=student,
            losses=plan.build(student=student.tap_specs(["logits"], *CROP), teacher=teacher),
            taps=("logits",),
            stream=StoredStream(
                cache, needs=plan.needs, layout=BatchLayout(seed=3, global_batch=BATCH), views="crops"
            ),
            evaluate=None,
            score_name="miou",
            export=export,
            summary={"student": "tiny"},
            resolved={"student": "tiny"},
        )

    return assemble


@pytest.mark.parametrize(
    ("schedule", "factors"),  # of the epochs 0, 0, 1, 1, 2, 2, 3, 4
    [
        ("stop=2", [1, 1, 1, 1, 0, 0, 0, 0]),
        ("warmup=4", [1 / 4, 1 / 4, 2 / 4, 2 / 4, 3 / 4, 3 / 4, 1, 1]),
        # exp(-5 (1 - e / 2)^2)
        ("rampup=2", [0.006737947, 0.006737947, 0.286504797, 0.286504797, 1, 1, 1, 1]),
    ],
)
def test_schedules_of_a_loss_follow_the_epochs_of_the_cache(
    cache: Cache, tmp_path: Path, schedule: str, factors: list[float]
) -> None:
    config = replace(CONFIG, steps=STEPS, batch_size=BATCH, accumulate=1, lr=1e-9, save_every=100, ema=None)
    train(config, tmp_path / "r", parts_on(cache, f"kd(weight=0.5,{schedule})"))
    lines = read_metrics(tmp_path / "r")
    weights = [line["loss"]["kd"] / line["unweighted"]["kd"] for line in lines]
    assert weights == pytest.approx([0.5 * factor for factor in factors])
    assert [line["epoch"] for line in lines] == [0, 0, 1, 1, 2, 2, 3, 4]
