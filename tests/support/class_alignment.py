"""Small classification caches with every kind of recipe, and the checks that their streams keep the project's
central promise. Each check raises AssertionError; `tests/trainer/stream/test_class_alignment.py` shows both.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.record.records import read_record
from kdcache.cache.spec import FILL_RGB, Need
from kdcache.trainer.stream.batch import Batch, BatchLayout
from kdcache.trainer.stream.order import sample_at
from kdcache.trainer.stream.stored import StoredStream

NUM_OF_CLASS = {"cat": 4, "dog": 4, "eel": 2}
NUM_SAMPLES, BAD = 10, 5  # shards of 3: the second holds two classes, the last one a single sample
CROP, NUM_VIEWS = (32, 32), 3
TAPS = ("stage1=int8", "embedding=fp32", "logits=fp32")
NEEDS = (Need(tap="stage1"), Need(tap="embedding"), Need(tap="logits"))
STEPS, GLOBAL_BATCH = (
    5,
    6,
)  # 30 positions: three epochs of 9 samples and a part, so every view of every sample
RECIPES = ("pad=4,flip", "rrc,flip,jitter=0.4x0.4x0.4x0.1,randaugment=2x9,erase=0.5", "pad=4,flip,mixup=0.2")
MIXED = "rrc,cutmix=1"
TURNS = "turns"  # pad=4,flip in four turns


def draw_classes(root: Path) -> Path:
    """PNG images of noise, 36x40 pixels, in one folder per class; one cannot be read."""
    rng = np.random.default_rng(0)
    number = 0
    for name, count in NUM_OF_CLASS.items():
        (root / "train" / name).mkdir(parents=True)
        for place in range(count):
            coarse = rng.integers(0, 256, (9, 10, 3), dtype=np.uint8)
            path = root / "train" / name / f"{place}.png"
            Image.fromarray(coarse).resize((40, 36), Image.Resampling.BILINEAR).save(path)
            if number == BAD:
                path.write_bytes(path.read_bytes()[:200])  # its header can be read
            number += 1
    return root


def build_class_cache(folder: Path, target_format: str, recipe: str, **changes: object) -> Cache:
    """Views of every sample by the tiny classifier: crops of `recipe`, or turned ones."""
    turned = recipe == TURNS
    label = recipe.replace("=", "").replace(",", "-")
    options: dict[str, object] = {
        "runs_dir": folder.parent / "runs",
        "caches_dir": folder.parent / f"{target_format}-{label}",
        "teacher": "tiny_classifier:make",
        "data": f"imagefolder:{folder}",
        "views": f"turns:{NUM_VIEWS}" if turned else f"crops:{NUM_VIEWS}",
        "augment": "pad=4,flip" if turned else recipe,
        "crop": CROP,
        "taps": tuple(parse_tap(t) for t in TAPS),
        "target_format": target_format,
        "batch_size": 2,
        "shard_rows": 3,
        "skip_bad": True,
    }
    report = build_cache(BuildOptions(**(options | changes)))  # type: ignore[arg-type]
    return open_cache(report.root)


class Expected(NamedTuple):
    """What one row of a batch must be, from the order, the records, the folder and Pillow alone."""

    sample: int
    label: int
    partner_label: int
    share: float
    ops: list[list[str | int]]
    partner: int | None

    @property
    def by_share(self) -> tuple[int, int, float]:
        """The class of the larger share, the other one, and the larger share as float32 has it."""
        share = np.float32(self.share)
        if share >= 0.5:
            return self.label, self.partner_label, float(share)
        return self.partner_label, self.label, float(np.float32(1) - share)


def expected(cache: Cache, position: int, quarter: int) -> Expected:
    """The row of one position of the order, `quarter` of its four with turned views."""
    sample = sample_at(0, position, num_samples=NUM_SAMPLES, shard_samples=3, invalid=[BAD])
    per_sample = 4 if cache.manifest.views[0].kind == TURNS else 1
    number = (position // (NUM_SAMPLES - 1) + cache.key_hash(sample)) % NUM_VIEWS * per_sample + quarter
    ops = ops_of(cache, sample, number)
    name, *numbers = ops[-1]
    partner, share = None, 1.0
    if name in ("mixup", "cutmix"):
        partner = cache.find(str(numbers[-1]))
        share = int(numbers[0]) / 1000 if name == "mixup" else 1 - int(numbers[2]) * int(numbers[3]) / 32**2
    other = class_of(cache, sample if partner is None else partner)
    return Expected(sample, class_of(cache, sample), other, share, ops, partner)


def ops_of(cache: Cache, sample: int, view: int) -> list[list[str | int]]:
    key = cache.coverage.key("logits", view, sample // 3)
    assert key is not None
    ops: list[list[str | int]] = read_record(cache.root, key)["views"][sample % 3]
    return ops


def class_of(cache: Cache, sample: int) -> int:
    return list(NUM_OF_CLASS).index(cache.key(sample).split("/")[0])


@torch.no_grad()
def assert_targets(cache: Cache, stream: StoredStream, teacher: Network) -> None:
    """Every target of every row is the teacher's answer to the stream's own pixels."""
    for batch in epochs_of(stream):
        taps = teacher(batch.images_BHWC, [n.tap for n in NEEDS])
        for name, target in stream.targets(batch).items():
            assert target.shape == taps[name].shape
            bound = cache.codec(name).bound(taps[name]) + 1e-5 * taps[name].abs().amax()
            assert bool(((target - taps[name]).abs() <= bound).all())


def assert_classes(cache: Cache, stream: StoredStream) -> None:
    """Samples, both classes and shares are those that the records name, the larger share first."""
    for batch in epochs_of(stream):
        rows = expected_rows(cache, stream, batch)
        assert batch.samples_B.tolist() == [row.sample for row in rows]
        first, second, shares = zip(*(row.by_share for row in rows), strict=True)
        assert batch.truth.dtype == torch.int64 and batch.truth.tolist() == list(first)
        mixes = cache.manifest.views[0].recipe.mixes
        assert (batch.mixed is not None) == mixes
        if batch.mixed is not None:
            assert batch.mixed.labels_B.dtype == torch.int64 and batch.mixed.share_B.dtype == torch.float32
            assert batch.mixed.labels_B.tolist() == list(second)
            assert batch.mixed.share_B.tolist() == list(shares)


def assert_pixels(cache: Cache, stream: StoredStream) -> None:
    """Where nothing is resized or coloured, pixels are numpy's own."""
    for batch in epochs_of(stream):
        for place, row in enumerate(expected_rows(cache, stream, batch)):
            wanted = painted(cache, row.sample, row.ops)
            if row.partner is not None:
                view = next(r.view for r in stream.rows(batch.micro_step) if r.sample == row.sample)
                other = painted(cache, row.partner, ops_of(cache, row.partner, view))
                wanted = row.share * wanted + (1 - row.share) * other
            assert np.abs(batch.images_BHWC[place].numpy() - wanted).max() <= 0.501


def painted(cache: Cache, sample: int, ops: list[list[str | int]]) -> np.ndarray:
    """One sample's pixels (32, 32, 3) after flip, crop and turn, as float."""
    pixels = np.asarray(Image.open(io.BytesIO(cache.image(sample).tobytes())).convert("RGB")).astype(float)
    for name, *numbers in ops:
        if name == "flip":
            pixels = pixels[:, ::-1]
        elif name == "crop":
            padded = np.empty((36 + 64, 40 + 64, 3))
            padded[...] = FILL_RGB
            padded[32:68, 32:72] = pixels
            y, x = 32 + int(numbers[0]), 32 + int(numbers[1])
            pixels = padded[y : y + 32, x : x + 32]
        elif name == "turn":
            pixels = np.rot90(pixels, int(numbers[0]))
    return pixels


def expected_rows(cache: Cache, stream: StoredStream, batch: Batch) -> list[Expected]:
    positions = stream.layout.positions(batch.micro_step)
    assert len(batch.images_BHWC) == len(positions) * batch.rows_per_sample
    return [expected(cache, p, quarter) for p in positions for quarter in range(batch.rows_per_sample)]


def epochs_of(stream: StoredStream) -> Iterator[Batch]:
    """The batches of STEPS steps; the stream is closed afterwards, also when a check fails."""
    batches = stream.run()
    try:
        for _ in range(STEPS):
            yield next(batches)
    finally:
        stream.close()


def make_all(cache: Cache, world: int) -> list[StoredStream]:
    """One stream per rank."""
    layouts = [BatchLayout(seed=0, global_batch=GLOBAL_BATCH, world=world, rank=r) for r in range(world)]
    return [StoredStream(cache, needs=NEEDS, layout=layout) for layout in layouts]
