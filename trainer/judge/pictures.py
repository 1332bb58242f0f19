"""Pictures of what networks say about whole images: image, truth, then one column per run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from kdcache.cache.errors import BadOption
from kdcache.cache.look.peek import colour_classes
from kdcache.cache.networks.run import load_run_network
from kdcache.cache.sources.contract import Source
from kdcache.cache.spec import CLASSIFICATION
from kdcache.trainer.judge.segmentation import evaluating, predict, whole_images
from kdcache.trainer.stream.source_samples import as_samples

CELL_PX = 168  # width of one column
TITLE_PX = 18


def draw_predictions(runs: Mapping[str, Path], source: Source, indices: Sequence[int], out: Path) -> None:
    """One row per image of `source`, one column per run (title -> run folder), written to `out` as PNG."""
    if source.task == CLASSIFICATION:
        raise BadOption(
            f"pictures of what networks say are of segmentation, and {source.name} has one class an image",
            where=str(out),
            fix="look at 'kdtrain eval RUN', which lists the classes",
        )
    networks = {title: load_run_network(path).eval() for title, path in runs.items()}
    rows = []
    for index in indices:
        image, label = decoded(source, index)
        row = [("image", image), ("truth", colour_classes(label, len(source.class_names)))]
        for title, network in networks.items():
            with torch.no_grad(), evaluating(network) as logits_of:
                classes = predict(logits_of, torch.from_numpy(image)[None], label.shape)[0].numpy()
            row.append((title, colour_classes(classes.astype(np.uint8), len(source.class_names))))
        rows.append(row)
    _sheet(rows).save(out)


def decoded(source: Source, index: int) -> tuple[np.ndarray, np.ndarray]:
    """One whole image (H, W, 3) and its label (H, W), uint8, through the image pipeline."""
    _, images_BHWC, labels_BHW = next(whole_images(as_samples(source), [[index]], 1, torch.device("cpu"), 1))
    return images_BHWC[0].numpy().copy(), labels_BHW[0].numpy().copy()


def _sheet(rows: Sequence[Sequence[tuple[str, np.ndarray]]]) -> Image.Image:
    heights = [round(CELL_PX * row[0][1].shape[0] / row[0][1].shape[1]) for row in rows]
    sheet = Image.new("RGB", (CELL_PX * len(rows[0]), TITLE_PX + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (title, _) in enumerate(rows[0]):
        draw.text((column * CELL_PX + 4, 3), title, fill="black")
    top = TITLE_PX
    for row, height in zip(rows, heights, strict=True):
        for column, (_, pixels) in enumerate(row):
            cell = Image.fromarray(pixels).resize((CELL_PX - 2, height - 2), Image.Resampling.NEAREST)
            sheet.paste(cell, (column * CELL_PX, top))
        top += height
    return sheet
