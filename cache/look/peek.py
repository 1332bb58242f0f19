"""One picture of one sample: image, truth, the teacher's prediction, and each tap as colours.

A tap's map is shown by its first three principal components as red, green and blue, each stretched from its
1st to its 99th percentile: alike cells have alike colours, absolute colours mean nothing. Logits are drawn as
their task draws answers, other vectors as grey squares from their lowest to their highest value.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from kdcache.cache.errors import BadOption
from kdcache.cache.files.system import user_path, write_whole
from kdcache.cache.images.feed import Feed
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.reader.cache import Cache
from kdcache.cache.reader.rows import feed_with_truth
from kdcache.cache.tasks.contract import AnsweredRow
from kdcache.cache.tasks.panels import PANEL_PX
from kdcache.cache.tasks.table import task_of
from kdcache.cache.visible import drawable, shell_word

TITLE_PX = 18
PANELS_ACROSS = 6
Panel = tuple[str, np.ndarray]  # title, (H, W, 3) uint8


def peek(cache: Cache, key: str, view: int, out: Path) -> list[str]:
    """Draw sample `key` under view number `view` to `out` (PNG); returns the titles of the panels. Raises
    BadOption for a key or a view that the cache does not have."""
    out = user_path(out)
    _require_picture(out)
    index = cache.find(key)
    _require_view(cache, view)
    panels = _pixel_panels(cache, index, view)
    decoded = ((tap, _decoded(cache, tap, index, view)) for tap in cache.manifest.tap_names)
    values = {tap: value for tap, value in decoded if value is not None}
    answers = _answer_panels(cache, values, panels[0][1])
    alone = [panel for name, panel in answers.items() if name not in values]
    panels += alone
    for tap, value in values.items():
        panels += _tap_panels(tap, value, answers.get(tap))
    picture = io.BytesIO()
    _compose(panels).save(picture, Image.registered_extensions()[out.suffix.lower()])
    write_whole(out, picture.getvalue())
    return [title for title, _ in panels]


def _require_picture(out: Path) -> None:
    """Raises BadOption for a file that Pillow would not know how to write, before anything is drawn."""
    if Image.registered_extensions().get(out.suffix.lower()) in Image.SAVE:
        return
    raise BadOption(
        f"'{out.name}' does not end as the name of a picture does",
        where=f"--out {out}",
        fix=f"name a PNG: --out {shell_word(str(out.with_name(out.name + '.png')))}",
    )


def _require_view(cache: Cache, view: int) -> None:
    legal = cache.view_numbers()
    if view in legal:
        return
    listed = ", ".join(
        f"{v.first}..{v.first + v.count - 1} ({v.kind})" if v.count > 1 else f"{v.first} ({v.kind})"
        for v in cache.complete_views(())
    )
    raise BadOption(
        f"the cache has no view {view}",
        where=f"cache {cache.root.name}",
        fix=f"name one of its views: {listed or 'none of them is finished'}",
    )


def _pixel_panels(cache: Cache, index: int, view: int) -> list[Panel]:
    """The network's input, and the truth that moved with it."""
    truth, row = task_of(cache.task).truth, cache.row(index, view)
    shown = feed_with_truth(cache, [row], truth, mixes=row.partner is not None)

    def feed(number: int) -> Feed | None:
        return None if number else shown

    pipeline = ImagePipeline(feed, batch_size=1, with_maps=truth.rides, mixes=cache.mixes)
    batch = next(iter(pipeline.run()))
    image = batch.images_BHWC[0].cpu().numpy().copy()
    map_HW = None if batch.maps_BHW is None else batch.maps_BHW[0].cpu().numpy().copy()
    pipeline.close()
    label = truth.panel(shown.truths[0], map_HW, cache.manifest.class_names, image)
    return [("image", image), ("label", label)]


def _answer_panels(cache: Cache, values: dict[str, np.ndarray], image_HWC: np.ndarray) -> dict[str, Panel]:
    """What each teacher says, by the name of the tap or group of taps that holds it."""
    m, config = cache.manifest, cache.teacher_config
    truth = task_of(m.task).truth
    configs = {f"{label}.": member for label, member in config.members.items()} or {"": config}
    grids = {prefix: one.grid for prefix, one in configs.items() if one.grid is not None}
    plain = {tap.name: values[tap.name] for tap in m.taps if tap.name in values and not tap.reduction}
    answers = truth.answers(AnsweredRow(plain, grids, image_HWC.shape[:2]))
    return {
        name: (
            "teacher" + (f" {name.rpartition('.')[0]}" if "." in name else ""),
            truth.answer_panel(answer, m.class_names, image_HWC),
        )
        for name, answer in answers.items()
    }


def _tap_panels(name: str, value: np.ndarray, answer: Panel | None) -> list[Panel]:
    """A map (H, W, C) or vector (C,) as pictures; `answer` is that of logits, and stands for a vector."""
    title = f"{name} {'x'.join(map(str, value.shape))}"
    said = [] if answer is None else [answer]
    if value.ndim == 1:
        return said or [(title, vector_grey(value))]
    return [*said, (title, pca_rgb(value))]


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
    """Panels side by side at one width, nearest-neighbour so that cells stay visible, titles above; many of
    them in several lines."""
    height = round(PANEL_PX * panels[0][1].shape[0] / panels[0][1].shape[1])
    across, line = min(len(panels), PANELS_ACROSS), height + TITLE_PX
    lines = math.ceil(len(panels) / across)
    sheet = Image.new("RGB", (PANEL_PX * across, line * lines), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (title, pixels) in enumerate(panels):
        x, y = place % across * PANEL_PX, place // across * line
        shown = Image.fromarray(pixels).resize((PANEL_PX - 2, height), Image.Resampling.NEAREST)
        sheet.paste(shown, (x, y + TITLE_PX))
        draw.text((x + 4, y + 3), drawable(title), fill="black")
    return sheet
