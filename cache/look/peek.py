"""One picture of one sample: image, truth, the teacher's prediction, and each tap as colours.

A tap's map is shown by its first three principal components as red, green and blue, each stretched from its
1st to its 99th percentile: alike cells have alike colours, absolute colours mean nothing. Logits are drawn as
their task draws answers, other vectors, and maps of one cell, as grey squares from their lowest to their
highest value. What is smaller than a panel is enlarged by a whole number, and titles stand above.
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
from kdcache.cache.sources.labels import shown_colours
from kdcache.cache.tasks.contract import AnsweredRow
from kdcache.cache.tasks.panels import PANEL_PX, enlarged, enlargement
from kdcache.cache.tasks.table import task_of
from kdcache.cache.visible import drawable, shell_word

TITLE_PX = 18
GAP_PX = 4  # between panels
NO_VALUE = (190, 210, 255)  # a pale blue
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
    m = cache.manifest
    label = truth.panel(shown.truths[0], map_HW, m.class_names, image, shown_colours(m.data))
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
            truth.answer_panel(answer, m.class_names, image_HWC, shown_colours(m.data)),
        )
        for name, answer in answers.items()
    }


def _tap_panels(name: str, value: np.ndarray, answer: Panel | None) -> list[Panel]:
    """A map (H, W, C) or vector (C,) as pictures; `answer` is that of logits, and stands for a vector."""
    title = f"{name} {'x'.join(map(str, value.shape))}"
    said = [] if answer is None else [answer]
    if value.ndim == 1:
        return said or [(title, _own_frame(vector_grey(value)))]
    if value.shape[:2] == (1, 1):  # pooled: of one cell alone no component says anything
        return [*said, (title, _own_frame(vector_grey(value[0, 0])))]
    return [*said, (title, pca_rgb(value))]


def vector_grey(value_C: np.ndarray) -> np.ndarray:
    """(C,) as a square of grey cells in reading order, (S, S, 3) uint8; what is left over is no grey."""
    side = math.ceil(math.sqrt(value_C.size))
    spread = max(float(np.ptp(value_C)), 1e-12)
    cells = np.full((side * side, 3), NO_VALUE, np.uint8)
    cells[: value_C.size] = ((value_C - value_C.min()) / spread * 255).round()[:, None]
    return cells.reshape(side, side, 3)


def _own_frame(pixels: np.ndarray) -> np.ndarray:
    """What is no map of the image, on a white panel, so that nothing stretches it to the image's sides."""
    pixels = enlarged(pixels)
    sheet = np.full((PANEL_PX, PANEL_PX, 3), 255, np.uint8)
    height, width = (min(side, PANEL_PX) for side in pixels.shape[:2])
    sheet[:height, :width] = pixels[:height, :width]
    return sheet


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
    """Panels side by side, nearest-neighbour so that cells stay visible, titles above; many of them in
    several lines. What lies on the image has its size there; what is as wide as a panel stays as it is."""
    cell = _cell(panels[0][1])
    shown = [p if p.shape[1] == PANEL_PX else np.asarray(_resized(p, cell)) for _, p in panels]
    across, line = min(len(panels), PANELS_ACROSS), TITLE_PX + max(len(pixels) for pixels in shown)
    lines, step = math.ceil(len(panels) / across), PANEL_PX + GAP_PX
    sheet = Image.new("RGB", (step * across, line * lines), "white")
    draw = ImageDraw.Draw(sheet)
    for place, ((title, _), pixels) in enumerate(zip(panels, shown, strict=True)):
        x, y = place % across * step, place // across * line
        sheet.paste(Image.fromarray(pixels), (x, y + TITLE_PX))
        draw.text((x + 4, y + 3), drawable(title), fill="black")
    return sheet


def _cell(image_HWC: np.ndarray) -> tuple[int, int]:
    """Width and height that an image is shown in: the most whole-numbered times its own that fit, of a large
    one the panel's width."""
    height, width = image_HWC.shape[:2]
    factor = enlargement(width)
    return (
        (width * factor, height * factor)
        if width <= PANEL_PX
        else (PANEL_PX, max(1, round(PANEL_PX * height / width)))
    )


def _resized(pixels: np.ndarray, cell: tuple[int, int]) -> Image.Image:
    return Image.fromarray(pixels).resize(cell, Image.Resampling.NEAREST)
