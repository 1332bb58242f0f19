"""One picture of one sample: image, label, the teacher's prediction, and each tap as colours.

A tap's map is shown by its first three principal components as red, green and blue, each stretched from its
1st to its 99th percentile: alike cells have alike colours, absolute colours mean nothing. Classes of a whole
image are text, other vectors grey squares from their lowest to their highest value.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from kdcache.cache.images.feed import Feed
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.reader.cache import Cache
from kdcache.cache.reader.rows import mixes, pixel_feed, view_row
from kdcache.cache.spec import IGNORE, SEGMENTATION
from kdcache.cache.views.view import own_share

PANEL_PX = 320  # width of one panel
TITLE_PX = 18
LINE_PX = 36
TOP_CLASSES = 5
GOLDEN_ANGLE = 0.61803398875  # hues of neighbouring class ids stay far apart
Panel = tuple[str, np.ndarray]  # title, (H, W, 3) uint8


def peek(cache: Cache, key: str, view: int, out: Path) -> list[str]:
    """Draw sample `key` under view number `view` to `out` (PNG); returns the titles of the panels."""
    index = cache.find(key)
    image, label = _pixels(cache, index, view)
    names = cache.manifest.class_names
    shown = (
        text_panel(_class_lines(cache, index, view)) if label is None else colour_classes(label, len(names))
    )
    panels = [("image", image), ("label", shown)]
    for tap in cache.manifest.taps:
        value = _decoded(cache, tap.name, index, view)
        if value is not None:
            scores = tap.tap.rpartition(".")[2] == "logits" and not tap.reduction
            panels += _tap_panels(tap.name, value, names if scores else ())
    out.parent.mkdir(parents=True, exist_ok=True)
    _compose(panels).save(out)
    return [title for title, _ in panels]


def _tap_panels(name: str, value: np.ndarray, names: Sequence[str]) -> list[Panel]:
    """A map (H, W, C) or vector (C,) as pictures; `names` of the classes where these are their logits."""
    title = f"{name} {'x'.join(map(str, value.shape))}"
    teacher = "teacher" + (f" {name.removesuffix('.logits')}" if "." in name else "")
    if value.ndim == 1:
        return [(teacher, text_panel(top_lines(value, names)))] if names else [(title, vector_grey(value))]
    panels = [(title, pca_rgb(value))]
    if names:
        panels.insert(0, (teacher, colour_classes(value.argmax(axis=2).astype(np.uint8), len(names))))
    return panels


def _pixels(cache: Cache, index: int, view: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The network's input (H, W, 3), and its label (H, W) in segmentation."""
    labelled = cache.task == SEGMENTATION
    rows = pixel_feed(cache, [(index, view)])
    if labelled:
        rows = rows._replace(labels=[cache.label(index)])

    def feed(number: int) -> Feed | None:
        return None if number else rows

    pipeline = ImagePipeline(feed, batch_size=1, with_labels=labelled, mixes=mixes(cache))
    batch = next(iter(pipeline.run()))
    image = batch.images_BHWC[0].cpu().numpy().copy()
    label = None if batch.labels_BHW is None else batch.labels_BHW[0].cpu().numpy().copy()
    pipeline.close()
    return image, label


def _class_lines(cache: Cache, index: int, view: int) -> list[str]:
    """The sample's class, and its partner's with both shares where two are mixed."""
    names, row = cache.manifest.class_names, view_row(cache, index, view)
    own = names[int(cache.label(index)[0])]
    if row.partner is None:
        return [own]
    share = own_share(row.effects, row.geometry.crop_h, row.geometry.crop_w)
    return [f"{share:.0%} {own}", f"{1 - share:.0%} {names[int(cache.label(row.partner)[0])]}"]


def top_lines(logits_K: np.ndarray, names: Sequence[str]) -> list[str]:
    """The likeliest classes with their probabilities."""
    scores = np.exp(logits_K.astype(np.float64) - logits_K.max())
    best = np.argsort(-scores, kind="stable")[:TOP_CLASSES]
    return [f"{scores[k] / scores.sum():.1%} {names[k]}" for k in best]


def text_panel(lines: Sequence[str]) -> np.ndarray:
    """Black lines on white, (H, W, 3) uint8."""
    sheet = Image.new("RGB", (PANEL_PX, PANEL_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for place, line in enumerate(lines):
        draw.text((8, 8 + place * LINE_PX), line, fill="black", font_size=LINE_PX * 2 // 3)
    return np.asarray(sheet)


def vector_grey(value_C: np.ndarray) -> np.ndarray:
    """(C,) as a square of grey cells in reading order, (S, S, 3) uint8."""
    side = math.ceil(math.sqrt(value_C.size))
    spread = max(float(np.ptp(value_C)), 1e-12)
    cells = np.zeros(side * side)
    cells[: value_C.size] = (value_C - value_C.min()) / spread * 255
    return np.repeat(cells.round().astype(np.uint8).reshape(side, side, 1), 3, axis=2)


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


def _compose(panels: Sequence[Panel]) -> Image.Image:
    """Panels side by side at one width, nearest-neighbour so that cells stay visible, titles above."""
    height = round(PANEL_PX * panels[0][1].shape[0] / panels[0][1].shape[1])
    sheet = Image.new("RGB", (PANEL_PX * len(panels), height + TITLE_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (title, pixels) in enumerate(panels):
        shown = Image.fromarray(pixels).resize((PANEL_PX - 2, height), Image.Resampling.NEAREST)
        sheet.paste(shown, (place * PANEL_PX, TITLE_PX))
        draw.text((place * PANEL_PX + 4, 3), title, fill="black")
    return sheet
