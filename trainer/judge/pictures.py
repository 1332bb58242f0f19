"""Pictures of what networks say about the images that they are judged on: image, truth, then one column per
run."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from kdcache.cache.errors import BadOption
from kdcache.cache.images.feed import ImageBatch
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run import load_run_network
from kdcache.cache.sources.contract import Source
from kdcache.cache.tasks.table import task_of
from kdcache.cache.visible import drawable
from kdcache.trainer.judge.judge import drawing_judge, evaluating, judged_images
from kdcache.trainer.stream.source_samples import as_samples

CELL_PX = 168  # width of one column
TITLE_PX = 18

Columns = list[tuple[str, np.ndarray]]  # title, (H, W, 3) uint8


def draw_predictions(runs: Mapping[str, Path], source: Source, indices: Sequence[int], out: Path) -> None:
    """One row per image of `source`, one column per run (title -> run folder), written to `out` as PNG.

    Raises BadOption for a task whose answers cannot be drawn.
    """
    counting, truth = drawing_judge(source), task_of(source.task).truth
    if counting.no_pictures:
        raise BadOption(
            counting.no_pictures.format(source=source.name),
            where=str(out),
            fix="look at 'kdtrain eval RUN', which lists the classes",
        )
    networks = {title: load_run_network(path).eval() for title, path in runs.items()}
    groups = [[index] for index in indices]
    images = judged_images(
        as_samples(source), groups, counting, truth, source.default_crop, torch.device("cpu"), num_threads=1
    )
    with closing(images):
        _sheet([_columns(networks, source, batch) for batch in images]).save(out)


def _columns(networks: Mapping[str, Network], source: Source, batch: ImageBatch) -> Columns:
    """One image, its truth, and what each network says of it."""
    counting, truth = drawing_judge(source), task_of(source.task).truth
    image_HWC = batch.images_BHWC[0].numpy()
    map_HW = None if batch.maps_BHW is None else batch.maps_BHW[0].numpy()
    panel = truth.panel(batch.feed.truths[0], map_HW, source.class_names, image_HWC, counting.colours)
    columns = [("image", image_HWC), ("truth", panel)]
    for title, network in networks.items():
        counting.meet(network, (image_HWC.shape[0], image_HWC.shape[1]))
        with evaluating(network, counting.taps) as ask:
            columns.append((title, counting.picture(ask(batch.images_BHWC), image_HWC)))
    return columns


def _sheet(rows: Sequence[Columns]) -> Image.Image:
    heights = [round(CELL_PX * row[0][1].shape[0] / row[0][1].shape[1]) for row in rows]
    sheet = Image.new("RGB", (CELL_PX * len(rows[0]), TITLE_PX + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (title, _) in enumerate(rows[0]):
        draw.text((column * CELL_PX + 4, 3), drawable(title), fill="black")
    top = TITLE_PX
    for row, height in zip(rows, heights, strict=True):
        for column, (_, pixels) in enumerate(row):
            cell = Image.fromarray(pixels).resize((CELL_PX - 2, height - 2), Image.Resampling.NEAREST)
            sheet.paste(cell, (column * CELL_PX, top))
        top += height
    return sheet
