"""The opponent of benchmarks/streaming.py: the same job as a torch Dataset with np.memmap targets.

Legend: H W pixels, C channels.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from kdcache.cache.reader.cache import Cache
from kdcache.cache.spec import FILL_RGB, IGNORE
from kdcache.cache.views.view import Geometry
from kdcache.trainer.stream.stored import StoredStream
from kdcache.trainer.stream.stored_views import cells

EPOCHS = 1_000_000  # endless for our purpose


class Memmaps(NamedTuple):
    """Plain files with every row of a target: [view, sample, ...]."""

    values: np.ndarray
    scale: np.ndarray
    stride: int


def write_memmaps(cache: Cache, target: str, work: Path) -> Memmaps:
    first = cache.parts(target, 0, 0)
    memmaps = {}
    for name in ("values", "scale"):
        shape = (cache.manifest.num_views, cache.num_samples, *first[name].shape)
        memmaps[name] = np.memmap(work / f"{name}.bin", first[name].dtype, "w+", shape=shape)
    for view in range(cache.manifest.num_views):
        for index in range(cache.num_samples):
            for name, part in cache.parts(target, index, view).items():
                memmaps[name][view, index] = part
    return Memmaps(memmaps["values"], memmaps["scale"], cache.tap(target).stride)


class Samples(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Image (H,W,3) uint8, label (H,W) uint8, values (h,w,C) uint8, scale (2,C) float32; by position."""

    def __init__(self, stream: StoredStream, cache: Cache, memmaps: Memmaps, decoder: str) -> None:
        self.views, self.cache, self.memmaps = stream.views, cache, memmaps
        self.image, self.label = DECODERS[decoder]
        self.order = np.random.default_rng(0).permutation(cache.num_samples)

    def __len__(self) -> int:
        return len(self.order) * EPOCHS

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        epoch, place = divmod(position, len(self.order))
        row = self.views.row(int(self.order[place]), epoch)
        image = self.image(self.cache.image(row.sample), row.geometry)
        label = self.label(self.cache.truth(row.sample), row.geometry)
        values = self.memmaps.values[row.view, row.sample]
        if row.window is not None:
            values = values[cells(row.window, self.memmaps.stride)]
        scale = self.memmaps.scale[row.view, row.sample]
        return image, label, torch.from_numpy(values.copy()), torch.from_numpy(scale.copy())


def torch_loader(
    stream: StoredStream, memmaps: Memmaps, batch_size: int, *, decoder: str
) -> DataLoader[tuple[Tensor, Tensor, Tensor, Tensor]]:
    samples = Samples(stream, stream._cache, memmaps, decoder)
    return DataLoader(samples, batch_size, num_workers=2, prefetch_factor=2)


def _torchvision_image(encoded: np.ndarray, geometry: Geometry) -> Tensor:
    image_CHW = decode_image(torch.from_numpy(encoded.copy()), ImageReadMode.RGB)
    return _move(image_CHW, geometry, InterpolationMode.BILINEAR, list(FILL_RGB)).permute(1, 2, 0)


def _torchvision_label(encoded: np.ndarray, geometry: Geometry) -> Tensor:
    label_1HW = decode_image(torch.from_numpy(encoded.copy()), ImageReadMode.GRAY)
    return _move(label_1HW, geometry, InterpolationMode.NEAREST, [IGNORE])[0]


def _move(image_CHW: Tensor, g: Geometry, how: InterpolationMode, fill: list[int]) -> Tensor:
    """Resize, flip, crop with padding: the view, in torchvision's words."""
    if tuple(image_CHW.shape[1:]) != (g.resize_h, g.resize_w):
        image_CHW = F.resize(image_CHW, [g.resize_h, g.resize_w], how, antialias=False)
    if g.flip:
        image_CHW = F.horizontal_flip(image_CHW)
    image_CHW = image_CHW[:, g.crop_y : g.crop_y + g.crop_h, g.crop_x : g.crop_x + g.crop_w]
    down, right = g.crop_h - image_CHW.shape[1], g.crop_w - image_CHW.shape[2]
    return F.pad(image_CHW, [0, 0, right, down], fill=fill) if down or right else image_CHW


def _pillow_image(encoded: np.ndarray, geometry: Geometry) -> Tensor:
    return _pillow(encoded, "RGB", geometry, Image.Resampling.BILINEAR, FILL_RGB)


def _pillow_label(encoded: np.ndarray, geometry: Geometry) -> Tensor:
    return _pillow(encoded, "L", geometry, Image.Resampling.NEAREST, IGNORE)


def _pillow(
    encoded: np.ndarray, mode: str, g: Geometry, how: Image.Resampling, fill: int | tuple[int, int, int]
) -> Tensor:
    import io

    image: Image.Image = Image.open(io.BytesIO(encoded.tobytes())).convert(mode)
    if image.size != (g.resize_w, g.resize_h):
        image = image.resize((g.resize_w, g.resize_h), how)
    if g.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    box = (g.crop_x, g.crop_y, min(g.crop_x + g.crop_w, image.width), min(g.crop_y + g.crop_h, image.height))
    whole = Image.new(mode, (g.crop_w, g.crop_h), fill)
    whole.paste(image.crop(box))
    return torch.from_numpy(np.asarray(whole).copy())


DECODERS = {
    "torchvision": (_torchvision_image, _torchvision_label),
    "pillow": (_pillow_image, _pillow_label),
}
