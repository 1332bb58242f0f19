"""A small segmentation cache with every kind of view, and streams over it."""

from pathlib import Path

import numpy as np
from PIL import Image
from tiny_folder import SIZES, draw_folder

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.spec import IGNORE, Need
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.stored import StoredStream

NUM_SAMPLES, BAD = 8, 5  # the fifth image is unreadable: its place stays, no epoch visits it
NUM_INDICES, INVALID = 9, (BAD, 8)  # three blocks of three places; the last place of the last is a hole
CROP = (40, 48)
TAPS = ("stage1=int8", "stage4=fp32", "logits=fp32")  # strides 4, 8, 8
NEEDS = (Need(tap="stage1"), Need(tap="stage4"), Need(tap="logits"))
STRIDE = {"stage1": 4, "stage4": 8, "logits": 8}
STEPS, GLOBAL_BATCH = 5, 6  # 30 positions: four epochs of 7 samples and a part, so every view of every sample


def draw_lossless_folder(root: Path) -> Path:
    """Images as PNG (Pillow then knows their pixels exactly) and labels of noise, so that any shift shows."""
    draw_folder(root, count=NUM_SAMPLES)
    rng = np.random.default_rng(0)
    for number in range(NUM_SAMPLES):
        jpeg = root / "train" / "images" / f"scene{number:02d}.jpg"
        Image.open(jpeg).save(jpeg.with_suffix(".png"))
        jpeg.unlink()
        noise = rng.choice([0, 1, 2, IGNORE], size=SIZES[number % 2]).astype(np.uint8)
        Image.fromarray(noise).save(root / "train" / "labels" / f"scene{number:02d}.png")
    (root / "train" / "images" / f"scene{BAD:02d}.png").write_bytes(b"no image")
    return root


def build_aligned_cache(
    folder: Path,
    target_format: str,
    views: str = "crops:3+full",
    augment: str | None = None,
    keep: str | None = None,
) -> Cache:
    """Three crops, the whole image and its mirror image of every sample, by the tiny teacher."""
    report = build_cache(
        BuildOptions(
            runs_dir=folder.parent / "runs",
            caches_dir=folder.parent / target_format,
            teacher="tiny_teacher:make",
            data=f"folder:{folder}",
            views=views,
            mirror="full" in views,
            crop=CROP,
            taps=tuple(parse_tap(t) for t in TAPS),
            target_format="zarr" if augment else target_format,
            augment=augment,
            keep=keep,
            batch_size=2,
            shard_rows=3,
            skip_bad=True,
        )
    )
    return open_cache(report.root)


def layouts(world: int) -> list[BatchLayout]:
    return [BatchLayout(seed=0, global_batch=GLOBAL_BATCH, world=world, rank=r) for r in range(world)]


def make(cache: Cache, layout: BatchLayout, family: str, crop: tuple[int, int] | None = None) -> StoredStream:
    return StoredStream(cache, needs=NEEDS, layout=layout, views=family, crop=crop)
