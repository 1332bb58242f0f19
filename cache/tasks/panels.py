"""Small pictures that several tasks draw: lines of text, classes as colours."""

import colorsys
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from kdcache.cache.spec import IGNORE
from kdcache.cache.visible import drawable

PANEL_PX = 320  # width of one panel
LINE_PX = 36
CAPTION_PX = 16  # height of a line above a picture
FONT_PX = 10  # height of its letters
LARGE_PX = 640  # width of a picture from whose double on letters grow with it
GOLDEN_ANGLE = 0.61803398875  # hues of neighbouring class ids stay far apart
Colours = Sequence[tuple[int, int, int] | None]  # of classes by id; shorter, or None: nobody said


def text_panel(lines: Sequence[str]) -> np.ndarray:
    """Black lines on white, (H, W, 3) uint8."""
    sheet = Image.new("RGB", (PANEL_PX, PANEL_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for place, line in enumerate(lines):
        draw.text((8, 8 + place * LINE_PX), drawable(line), fill="black", font_size=LINE_PX * 2 // 3)
    return np.asarray(sheet)


def enlargement(width: int) -> int:
    """The whole number that makes a small picture about as wide as a panel; 1 for others."""
    return max(1, PANEL_PX // width)


def enlarged(image_HWC: np.ndarray, factor: int | None = None) -> np.ndarray:
    """Every pixel as a square of `factor` pixels, by default that of `enlargement`."""
    factor = factor or enlargement(image_HWC.shape[1])
    return np.repeat(np.repeat(image_HWC, factor, axis=0), factor, axis=1)


def draw_boxes(
    image_HWC: np.ndarray, boxes_M4: np.ndarray, classes_M: Sequence[float] | np.ndarray, texts: Sequence[str]
) -> np.ndarray:
    """The picture, `enlarged`, with a frame in its class's colour and a text for every box, whose edges are
    in pixels of `image_HWC`: letters have a size of their own and would hide a small picture."""
    factor = enlargement(image_HWC.shape[1])
    sheet = Image.fromarray(enlarged(image_HWC, factor))
    draw, scale = ImageDraw.Draw(sheet), _text_scale(sheet.width)
    edges_M4 = (boxes_M4 * factor).tolist()
    rows = list(zip(edges_M4, classes_M, texts, strict=True))
    for (left, top, right, bottom), number, text in reversed(rows):  # the first ones, the surest, on top
        colour = class_colour(int(number))
        # An edge lies between two pixels: a frame is drawn on the last ones inside.
        inside = max(left, right - 1), max(top, bottom - 1)
        draw.rectangle((left, top, *inside), outline=colour, width=scale)
        _tag(draw, left, top, drawable(text), colour, scale)
    return np.asarray(sheet)


def _tag(
    draw: ImageDraw.ImageDraw, left: float, top: float, text: str, colour: tuple[int, int, int], scale: int
) -> None:
    """A text on its class's colour, black or white, whichever is seen; moved to where it fits."""
    if not text:
        return
    size = FONT_PX * scale
    wide = math.ceil(draw.textlength(text, font_size=size)) + 4 * scale
    left = max(0, min(round(left), draw.im.size[0] - wide))
    top = max(0, min(round(top), draw.im.size[1] - CAPTION_PX * scale))
    draw.rectangle((left, top, left + wide - 1, top + (CAPTION_PX - 2) * scale - 1), fill=colour)
    bright = sum(share * part for share, part in zip((0.299, 0.587, 0.114), colour, strict=True)) > 128
    draw.text((left + 2 * scale, top + scale), text, fill="black" if bright else "white", font_size=size)


def _text_scale(width: int) -> int:
    """How many times larger than usual letters are on a picture of `width` pixels, which is shown smaller."""
    return max(1, width // LARGE_PX)


def caption(image_HWC: np.ndarray, text: str, number: int) -> np.ndarray:
    """The picture, `enlarged`, under a line of text in the colour of a class."""
    picture, said = enlarged(image_HWC), drawable(text)
    width = max(picture.shape[1], 4 + round(ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(said)))
    sheet = Image.new("RGB", (width, CAPTION_PX + picture.shape[0]), "black")
    sheet.paste(Image.fromarray(picture), (0, CAPTION_PX))
    ImageDraw.Draw(sheet).text((2, 2), said, fill=class_colour(number))
    return np.asarray(sheet)


def with_legend(image_HWC: np.ndarray, named: Sequence[tuple[str, tuple[int, int, int]]]) -> np.ndarray:
    """The picture in its own size, and below it a line for each name with a square of its colour."""
    height, width = image_HWC.shape[:2]
    scale = _text_scale(width)
    line, size = CAPTION_PX * scale, FONT_PX * scale
    texts, ruler = [drawable(name) for name, _ in named], ImageDraw.Draw(Image.new("RGB", (1, 1)))
    wide = max([width, *(line + 8 + math.ceil(ruler.textlength(text, font_size=size)) for text in texts)])
    sheet = Image.new("RGB", (wide, height + line * len(named)), "black")
    sheet.paste(Image.fromarray(image_HWC), (0, 0))
    draw = ImageDraw.Draw(sheet)
    for place, (text, (_, colour)) in enumerate(zip(texts, named, strict=True)):
        top = height + place * line
        draw.rectangle((2, top + 2, line - 3, top + line - 3), fill=colour)
        draw.text((line + 2, top + 2 * scale), text, fill="white", font_size=size)
    return np.asarray(sheet)


def class_colour(number: int, colours: Colours = ()) -> tuple[int, int, int]:
    """Red, green, blue of a class id: that of `colours`, where it has one."""
    own = colours[number] if number < len(colours) else None
    if own is not None:
        return own
    hue, value = number * GOLDEN_ANGLE % 1.0, 0.95 - 0.25 * (number % 2)
    red, green, blue = (round(255 * share) for share in colorsys.hsv_to_rgb(hue, 0.65, value))
    return red, green, blue


def colour_classes(label_HW: np.ndarray, num_classes: int, colours: Colours = ()) -> np.ndarray:
    """Class ids as colours; ignored pixels black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    for number in range(min(num_classes, IGNORE)):
        table[number] = class_colour(number, colours)
    coloured: np.ndarray = table[label_HW]
    return coloured
