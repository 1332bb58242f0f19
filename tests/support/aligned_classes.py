"""Small classification caches with every kind of recipe, and streams over them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.record.row_columns import columns_name
from kdcache.cache.spec import Need
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.stored import StoredStream

NUM_OF_CLASS = {"cat": 4, "dog": 4, "eel": 2}
NUM_SAMPLES, BAD = 10, 5  # shards of 3: the second holds two classes, the last one a single sample
NUM_INDICES, INVALID = 12, (BAD, 10, 11)  # of four blocks; the last two places are holes
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


def ops_of(cache: Cache, sample: int, view: int) -> list[list[str | int]]:
    """What was recorded of a row, read as a stranger would: flip, crop, then its effects."""
    key, place = cache.coverage.key("logits", view, sample // 3), sample % 3
    assert key is not None
    columns = load_file(cache.root / columns_name(key))
    assert columns["valid"][place] == 1
    _, _, flip, y, x, height, width = columns["geometry"][place].tolist()
    ops: list[list[str | int]] = [["flip"]] if flip else []
    ops.append(["crop", y, x, height, width])
    if "effects.ends" not in columns:
        return ops
    end = columns["effects.ends"].tolist()
    text = columns["effects.text"].tobytes()[end[place - 1] if place else 0 : end[place]]
    return ops + json.loads(text or "[]")


def class_of(cache: Cache, sample: int) -> int:
    return list(NUM_OF_CLASS).index(cache.key(sample).split("/")[0])


def make_all(cache: Cache, world: int) -> list[StoredStream]:
    """One stream per rank."""
    layouts = [BatchLayout(seed=0, global_batch=GLOBAL_BATCH, world=world, rank=r) for r in range(world)]
    return [StoredStream(cache, needs=NEEDS, layout=layout) for layout in layouts]
