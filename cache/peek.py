"""One picture of one sample: image, label, the teacher's prediction, and each tap as colours.

A tap's map is shown by its first three principal components as red, green and blue, each stretched from its
1st to its
99th percentile: alike cells have alike colours, absolute colours mean nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from kdcache.cache.cache import Cache
from kdcache.cache.images import Feed, ImagePipeline
from kdcache.cache.spec import IGNORE

PANEL_PX = 320  # width of one panel
TITLE_PX = 18
GOLDEN_ANGLE = 0.61803398875  # hues of neighbouring class ids stay far apart


def peek(cache: Cache, key: str, view: int, out: Path) -> list[str]:
    """Draw sample `key` under view number `view` to `out` (PNG); returns the titles of the panels."""
    index = cache.find(key)
    image, label = _pixels(cache, index, view)
    classes = len(cache.manifest.class_names)
    panels = [("image", image), ("label", colour_classes(label, classes))]
    for tap in cache.manifest.taps:
        value = _decoded(cache, tap.name, index, view)
        if value is None or value.ndim != 3:
            continue
        if tap.tap == "logits":
            panels.append(("teacher", colour_classes(value.argmax(axis=2).astype(np.uint8), classes)))
        panels.append((f"{tap.name} {'x'.join(map(str, value.shape))}", pca_rgb(value)))
    _compose(panels).save(out)
    return [title for title, _ in panels]


def _pixels(cache: Cache, index: int, view: int) -> tuple[np.ndarray, np.ndarray]:
    def feed(number: int) -> Feed | None:
        if number:
            return None
        return Feed([cache.image(index)], [cache.label(index)], [cache.geometry(index, view)], [])

    pipeline = ImagePipeline(feed, batch_size=1, with_labels=True)
    batch = next(iter(pipeline.run()))
    image = batch.images_BHWC[0].cpu().numpy().copy()
    label = batch.labels_BHW[0].cpu().numpy().copy() if batch.labels_BHW is not None else image[..., 0]
    pipeline.close()
    return image, label


def _decoded(cache: Cache, target: str, index: int, view: int) -> np.ndarray | None:
    if cache.coverage.key(target, view, index // cache.shard_samples) is None:
        return None
    parts = {k: torch.from_numpy(v.copy())[None] for k, v in cache.parts(target, index, view).items()}
    value = cache.codec(target).decode(parts)[0]
    shown: np.ndarray = (value.permute(1, 2, 0) if value.ndim == 3 else value).numpy()
    return shown


def colour_classes(label_HW: np.ndarray, num_classes: int) -> np.ndarray:
    """Class ids as colours; ignored pixels black."""
    import colorsys

    table = np.zeros((256, 3), dtype=np.uint8)
    for c in range(min(num_classes, IGNORE)):
        table[c] = [
            round(255 * v) for v in colorsys.hsv_to_rgb(c * GOLDEN_ANGLE % 1.0, 0.65, 0.95 - 0.25 * (c % 2))
        ]
    coloured: np.ndarray = table[label_HW]
    return coloured


def pca_rgb(value_HWC: np.ndarray) -> np.ndarray:
    """(H, W, C) float -> (H, W, 3) uint8: principal components 1-3, sign fixed so that the largest weight is
    positive."""
    h, w, channels = value_HWC.shape
    flat = value_HWC.reshape(-1, channels).astype(np.float64)
    flat = flat - flat.mean(axis=0)
    axes = np.linalg.svd(flat, full_matrices=False)[2][:3]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    parts = flat @ axes.T
    low, high = np.percentile(parts, [1, 99], axis=0)
    scaled = np.clip((parts - low) / np.maximum(high - low, 1e-12), 0, 1)
    rgb = np.zeros((h * w, 3))
    rgb[:, : scaled.shape[1]] = scaled
    return (rgb * 255).round().astype(np.uint8).reshape(h, w, 3)


def _compose(panels: Sequence[tuple[str, np.ndarray]]) -> Image.Image:
    """Panels side by side at one width, nearest-neighbour so that cells stay visible, titles above."""
    height = round(PANEL_PX * panels[0][1].shape[0] / panels[0][1].shape[1])
    sheet = Image.new("RGB", (PANEL_PX * len(panels), height + TITLE_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (title, pixels) in enumerate(panels):
        shown = Image.fromarray(pixels).resize((PANEL_PX - 2, height), Image.Resampling.NEAREST)
        sheet.paste(shown, (place * PANEL_PX, TITLE_PX))
        draw.text((place * PANEL_PX + 4, 3), title, fill="black")
    return sheet
