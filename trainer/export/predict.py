"""What a run's student says of images, as files: the same pixels, the same network and the same reading of
its answers as when it is judged."""

import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from kdcache.cache.errors import BadOption, KdError, NotFinite
from kdcache.cache.images.feed import ImageBatch
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run import load_run_network
from kdcache.cache.networks.run_card import RunCard, read_run_card
from kdcache.cache.record.find import caches_dir, stored_cache
from kdcache.cache.record.manifest import read_manifest
from kdcache.cache.sources.labels import shown_colours
from kdcache.cache.sources.table import open_source, own_name
from kdcache.cache.tasks.panels import Colours, class_colour
from kdcache.trainer.config import MachineOptions, read_config
from kdcache.trainer.export.loose_images import LooseImages, intact, loose_images
from kdcache.trainer.export.new_folder import check_new, new_folder
from kdcache.trainer.folder.home import find_run
from kdcache.trainer.judge.contract import Answers, Judge, ShownImage, Told
from kdcache.trainer.judge.judge import evaluating, judge_of, judged_images
from kdcache.trainer.ranks import check_device

MASKS, OVERLAYS = "masks", "overlays"


class Predicted(NamedTuple):
    """What was written."""

    out: Path
    num_images: int
    files: tuple[str, ...]  # of all images together
    masks: bool  # whether each image has one
    skipped: tuple[Path, ...] = ()  # images that cannot be read


def predict_images(
    run: str,
    images: Sequence[str],
    *,
    home: Path,
    out: Path,
    overlay: bool = False,
    skip_bad: bool = False,
    device: str = MachineOptions.device,
    threads: int = MachineOptions.threads,
) -> Predicted:
    """Ask the exported student of a run about JPEG and PNG files and all below folders; answers in `out`.

    Raises KdError for what is not there, cannot be read or cannot be said.
    """
    MachineOptions(device=device, threads=threads)  # raises for what cannot be
    check_new(out)
    run_dir = find_run(home, run)
    card = read_run_card(run_dir)
    counting = judge_of(card.task, card.class_names)
    if counting.no_predictions:
        raise BadOption(
            counting.no_predictions, where=str(run_dir), fix=f"judge it: kdtrain eval {run_dir.name}"
        )
    check_device(device)
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    samples, skipped = intact(loose_images(images, card.task), skip_bad=skip_bad)
    counting.colours = _colours_of(run_dir, card, home) if counting.coloured else ()
    network = load_run_network(run_dir).to(where)
    with new_folder(out) as draft:
        masks, kept = False, []
        for shown, told in told_of(network, samples, counting, card, where, threads):
            masks = _write_pictures(draft, samples, counting, shown, told, overlay=overlay) or masks
            kept.append((shown, told.rows))
        files = counting.told_files(kept)
        for name, content in files.items():
            (draft / name).write_bytes(content)
    return Predicted(out, samples.num_samples, tuple(files), masks, skipped)


def _colours_of(run_dir: Path, card: RunCard, home: Path) -> Colours:
    """The colours of the classes in the data of a run, or in the cache that it read; none where neither is
    there any more, or where the data are code of the user's own."""
    try:
        cache = read_config(run_dir).cache
        if cache:
            return shown_colours(read_manifest(stored_cache(cache, caches_dir(home))).data)
        return () if own_name(card.data) else shown_colours(open_source(card.data, "train").describe())
    except KdError:
        return ()


def told_of(
    network: Network,
    samples: LooseImages,
    counting: Judge,
    card: RunCard,
    device: torch.device,
    num_threads: int,
) -> Iterator[tuple[ShownImage, Told]]:
    """Every image with what the network says of it, in the groups in which a judge asks.

    Raises NotFinite for answers that are none, BadSample for an image that cannot be read.
    """
    counting.meet(network, card.crop)
    indices = list(range(samples.num_samples))
    groups = counting.groups(indices, counting.batch_size, samples.size)
    batches = judged_images(samples, groups, counting, None, card.crop, device, num_threads)
    with closing(batches), evaluating(network, counting.taps) as ask:
        for batch in batches:
            shown = [_shown(samples, batch, place) for place in range(len(batch.feed.rows))]
            answers = ask(batch.images_BHWC.to(device))
            _refuse_not_finite(answers, counting.taps, shown)
            yield from zip(shown, counting.told(answers, shown), strict=True)


def _shown(samples: LooseImages, batch: ImageBatch, place: int) -> ShownImage:
    row = batch.feed.rows[place]
    return ShownImage(
        samples.key(row.sample), samples.file(row.sample), samples.size(row.sample), row.geometry
    )


def _refuse_not_finite(answers: Answers, taps: Sequence[str], shown: Sequence[ShownImage]) -> None:
    if not all(bool(answers[tap].isfinite().all()) for tap in taps):
        names = ", ".join(f"'{image.key}'" for image in shown[:3])
        raise NotFinite(
            f"the student answers infinity or NaN for {names}",
            where="prediction",
            fix="train it again under another --run: such a student is no network that can be used",
        )


def _write_pictures(
    draft: Path, samples: LooseImages, counting: Judge, shown: ShownImage, told: Told, *, overlay: bool
) -> bool:
    """The mask of an image, and the image with what was said of it; whether there is a mask."""
    if told.map_HW is not None:
        _write(
            draft / MASKS / f"{shown.key}.png",
            palette_png(told.map_HW, counting.num_classes, counting.colours),
        )
    if overlay:
        stored_HWC = _stored_pixels(samples, shown)
        drawn = Image.fromarray(counting.overlay(told, stored_HWC))
        _write(draft / OVERLAYS / f"{shown.key}.png", _png(drawn))
    return told.map_HW is not None


def palette_png(classes_HW: np.ndarray, num_classes: int, own: Colours = ()) -> bytes:
    """An 8-bit PNG whose values are the class ids, shown in the colours of the classes; others are black."""
    image = Image.fromarray(classes_HW)
    colours: list[int] = [part for number in range(num_classes) for part in class_colour(number, own)]
    image.putpalette(colours + [0] * (768 - len(colours)))
    return _png(image)


def _stored_pixels(samples: LooseImages, shown: ShownImage) -> np.ndarray:
    """(H, W, 3) uint8, as stored: no EXIF rotation. The pipeline has decoded it by now."""
    index = samples.keys.index(shown.key)
    with Image.open(io.BytesIO(samples.image(index).tobytes())) as image:
        return np.asarray(image.convert("RGB"))


def _png(image: Image.Image) -> bytes:
    content: Any = io.BytesIO()
    image.save(content, "PNG")
    written: bytes = content.getvalue()
    return written


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
