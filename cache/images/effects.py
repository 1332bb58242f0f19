"""Effects: what happens to the pixels of a crop after geometry. uint8 in, uint8 out.

One place for build, training and evaluation, so teacher and student see the same pixels. Each operation works
on all rows that have it at once, element by element: whole numbers wherever a sum is taken, one float kernel
per step elsewhere. A row's pixels therefore depend neither on the other rows nor on their order or number,
nor on threads. Batches without effects pass through untouched and uncopied.

The formulas are those of torchvision's operations on uint8, rounded to nearest; hue goes from RGB around the
colour circle and back. Geometric ones sample the nearest pixel; what comes from outside is FILL_RGB. Axes:
R the rows that have the operation, H W C.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kdcache.cache.spec import FILL_RGB
from kdcache.cache.views.view import Op, partner_key

_GREY = (299, 587, 114)  # thousandths of red, green, blue in brightness (ITU-R 601)
Numbers = list[list[int]]  # per row the operation's integers


def apply_effects(
    images_BHWC: Tensor, effects: Sequence[Sequence[Op]], partners_BHWC: Tensor | None = None
) -> Tensor:
    """Each row's effects in their order; a mixing one takes its row of `partners_BHWC`.

    `images_BHWC` is changed in place where nothing changes the size, and is the answer.
    """
    for step in range(max((len(ops) for ops in effects), default=0)):
        rows_of: dict[str, list[int]] = {}
        for row, ops in enumerate(effects):
            if step < len(ops):
                rows_of.setdefault(str(ops[step][0]), []).append(row)
        for name, rows in rows_of.items():
            numbers = [[n for n in effects[row][step][1:] if isinstance(n, int)] for row in rows]
            index = torch.tensor(rows, device=images_BHWC.device)
            piece = images_BHWC[index]
            if partner_key(effects[rows[0]][step : step + 1]) is not None:
                assert partners_BHWC is not None, f"{name} without the pixels of a partner"
                images_BHWC[index] = _MIXING[name](piece, numbers, partners_BHWC[index])
            else:
                images_BHWC[index] = _OPERATIONS[name](piece, numbers)
    return images_BHWC


def _turn(images: Tensor, numbers: Numbers) -> Tensor:
    """Quarter turns counter-clockwise; exact. Only square images, so that a batch keeps its shape."""
    turned = [torch.rot90(image, k[0], (0, 1)) for image, k in zip(images, numbers, strict=True)]
    return torch.stack(turned)


def _columns(numbers: Numbers, images: Tensor) -> list[Tensor]:
    """The integers as one int32 (R, 1, 1, 1) tensor each."""
    table = torch.tensor(numbers, dtype=torch.int32, device=images.device)
    return [column.view(-1, 1, 1, 1) for column in table.unbind(1)]


def _blend(images: Tensor, other: Tensor, numbers: Numbers) -> Tensor:
    """m thousandths of the image and 1000 - m of `other`, also beyond 0..1000."""
    (m,) = _columns(numbers, images)
    mixed = torch.div(images.int() * m + other.int() * (1000 - m) + 500, 1000, rounding_mode="floor")
    return mixed.clamp_(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """(R, H, W, 1) int32 brightness."""
    weights = torch.tensor(_GREY, dtype=torch.int32, device=images.device)
    return ((images.int() * weights).sum(-1, keepdim=True, dtype=torch.int32) + 500) // 1000


def _brightness(images: Tensor, numbers: Numbers) -> Tensor:
    return _blend(images, torch.zeros((), dtype=torch.int32, device=images.device), numbers)


def _contrast(images: Tensor, numbers: Numbers) -> Tensor:
    pixels = images.shape[1] * images.shape[2]
    mean = (2 * _grey(images).long().sum((1, 2, 3), keepdim=True) + pixels) // (2 * pixels)
    return _blend(images, mean, numbers)


def _saturation(images: Tensor, numbers: Numbers) -> Tensor:
    return _blend(images, _grey(images), numbers)


def _sharpness(images: Tensor, numbers: Numbers) -> Tensor:
    """Against the 3x3 mean that counts the centre five times; the border stays."""
    if min(images.shape[1:3]) < 3:
        return images
    p = images.int()
    h, w = images.shape[1:3]
    total = 4 * p[:, 1:-1, 1:-1]
    for y in range(3):
        for x in range(3):
            total = total + p[:, y : y + h - 2, x : x + w - 2]
    smooth = p.clone()
    smooth[:, 1:-1, 1:-1] = (2 * total + 13) // 26
    return _blend(images, smooth, numbers)


def _hue(images: Tensor, numbers: Numbers) -> Tensor:
    """Value and saturation of each pixel stay; 0 changes nothing.

    Element by element: the same pixel gives the same answer wherever it stands.
    """
    (m,) = _columns(numbers, images)
    red, green, blue = images.float().unbind(-1)
    value, low = images.float().amax(-1), images.float().amin(-1)
    chroma = value - low
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    sixth = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2.0, (red - green) / safe + 4.0),
    )
    sixth = sixth + (m.float() / 1000)[..., 0] * 6.0
    channels = [_channel(sixth, value, chroma, shift) for shift in (5.0, 3.0, 1.0)]
    return torch.stack(channels, -1).round_().clamp_(0, 255).to(torch.uint8)


def _channel(sixth: Tensor, value: Tensor, chroma: Tensor, shift: float) -> Tensor:
    """value - chroma * clamp(min(k, 4 - k), 0, 1), k = (shift + hue) mod 6; 5 is red, 3 green, 1 blue."""
    k = torch.remainder(sixth + shift, 6.0)
    return value - chroma * torch.minimum(k, 4.0 - k).clamp(0.0, 1.0)


def _posterize(images: Tensor, numbers: Numbers) -> Tensor:
    (bits,) = _columns(numbers, images)
    return ((images.int() >> (8 - bits)) << (8 - bits)).to(torch.uint8)


def _solarize(images: Tensor, numbers: Numbers) -> Tensor:
    (threshold,) = _columns(numbers, images)
    return torch.where(images.int() >= threshold, 255 - images, images)


def _autocontrast(images: Tensor, numbers: Numbers) -> Tensor:
    """Each channel stretched to 0..255; a channel of one value stays."""
    del numbers
    p = images.int()
    low, high = p.amin((1, 2), keepdim=True), p.amax((1, 2), keepdim=True)
    span = (high - low).clamp_min(1)
    stretched = (2 * 255 * (p - low) + span) // (2 * span)
    return torch.where(high > low, stretched, p).to(torch.uint8)


def _equalize(images: Tensor, numbers: Numbers) -> Tensor:
    """Each channel's histogram made flat, by Pillow's integer formula."""
    del numbers
    rows, h, w, channels = images.shape
    flat = images.permute(0, 3, 1, 2).reshape(rows * channels, h * w).long()
    counts = torch.zeros(rows * channels, 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(1, flat, torch.ones_like(flat))
    last = counts.gather(1, flat.amax(1, keepdim=True))
    step = (h * w - last) // 255
    before = counts.cumsum(1) - counts
    table = ((before + step // 2) // step.clamp_min(1)).clamp_(0, 255)
    equalized = torch.where(step > 0, table.gather(1, flat), flat)
    return equalized.reshape(rows, channels, h, w).permute(0, 2, 3, 1).to(torch.uint8)


def _sampled(images: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """The nearest pixel at float64 (R, H, W) pixel indices y and x; FILL_RGB outside."""
    h, w = images.shape[1:3]
    rows, columns = (torch.floor(place + 0.5).long() for place in (y, x))
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    number = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    nearest = images[number, rows.clamp(0, h - 1), columns.clamp(0, w - 1)]
    fill = torch.tensor(FILL_RGB, dtype=torch.uint8, device=images.device)
    return torch.where(inside[..., None], nearest, fill)


def _affine(matrix: Callable[[float], tuple[float, float, float, float]]) -> Callable[..., Tensor]:
    """An operation that reads the pixel at M (y, x) about the centre; M = (yy, yx, xy, xx)."""

    def operation(images: Tensor, numbers: Numbers) -> Tensor:
        h, w = images.shape[1:3]
        device, real = images.device, torch.float64
        y = torch.arange(h, dtype=real, device=device).view(1, h, 1) - (h - 1) / 2
        x = torch.arange(w, dtype=real, device=device).view(1, 1, w) - (w - 1) / 2
        terms = torch.tensor([matrix(n / 1000) for (n,) in numbers], dtype=real, device=device)
        yy, yx, xy, xx = (column.view(-1, 1, 1) for column in terms.unbind(1))
        return _sampled(images, yy * y + yx * x + (h - 1) / 2, xy * y + xx * x + (w - 1) / 2)

    return operation


def _rotation(degrees: float) -> tuple[float, float, float, float]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return cos, sin, -sin, cos


def _translate(axis: int) -> Callable[..., Tensor]:
    """Whole pixels, so nothing is resampled; `axis` 0 is down, 1 to the right."""

    def operation(images: Tensor, numbers: Numbers) -> Tensor:
        h, w = images.shape[1:3]
        (m,) = _columns(numbers, images)
        by = torch.div(m[..., 0] * (h, w)[axis] + 500, 1000, rounding_mode="floor")
        y = torch.arange(h, device=images.device).view(1, h, 1).expand(-1, -1, w) - by * (axis == 0)
        x = torch.arange(w, device=images.device).view(1, 1, w).expand(-1, h, -1) - by * (axis == 1)
        return _sampled(images, y.double(), x.double())

    return operation


def _rectangle(images: Tensor, y: Tensor, x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    """(R, H, W, 1) bool, True inside."""
    rows = torch.arange(images.shape[1], device=images.device).view(1, -1, 1, 1)
    columns = torch.arange(images.shape[2], device=images.device).view(1, 1, -1, 1)
    return (rows >= y) & (rows < y + h) & (columns >= x) & (columns < x + w)


def _erase(images: Tensor, numbers: Numbers) -> Tensor:
    y, x, h, w, *rgb = _columns(numbers, images)
    return torch.where(_rectangle(images, y, x, h, w), torch.cat(rgb, -1).to(torch.uint8), images)


def _cutmix(images: Tensor, numbers: Numbers, partners: Tensor) -> Tensor:
    return torch.where(_rectangle(images, *_columns(numbers, images)), partners, images)


def _mixup(images: Tensor, numbers: Numbers, partners: Tensor) -> Tensor:
    return _blend(images, partners, numbers)


_MIXING: dict[str, Callable[[Tensor, Numbers, Tensor], Tensor]] = {"mixup": _mixup, "cutmix": _cutmix}
_OPERATIONS: dict[str, Callable[[Tensor, Numbers], Tensor]] = {
    "turn": _turn,
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "sharpness": _sharpness,
    "hue": _hue,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "shear_x": _affine(lambda m: (1, 0, m, 1)),
    "shear_y": _affine(lambda m: (1, m, 0, 1)),
    "translate_x": _translate(1),
    "translate_y": _translate(0),
    "rotate": _affine(_rotation),
    "erase": _erase,
}
