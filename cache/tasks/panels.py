"""Small pictures that several tasks draw: lines of text, classes as colours."""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from kdcache.cache.spec import IGNORE
from kdcache.cache.visible import drawable

PANEL_PX = 320  # width of one panel
LINE_PX = 36
GOLDEN_ANGLE = 0.61803398875  # hues of neighbouring class ids stay far apart


def text_panel(lines: Sequence[str]) -> np.ndarray:
    """Black lines on white, (H, W, 3) uint8."""
    sheet = Image.new("RGB", (PANEL_PX, PANEL_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for place, line in enumerate(lines):
        draw.text((8, 8 + place * LINE_PX), drawable(line), fill="black", font_size=LINE_PX * 2 // 3)
    return np.asarray(sheet)


def draw_boxes(
    image_HWC: np.ndarray, boxes_M4: np.ndarray, classes_M: Sequence[float] | np.ndarray, texts: Sequence[str]
) -> np.ndarray:
    """A copy of the picture with a frame in its class's colour and a text for every box, edges in pixels."""
    sheet = Image.fromarray(image_HWC)
    draw = ImageDraw.Draw(sheet)
    for (left, top, right, bottom), number, text in zip(boxes_M4.tolist(), classes_M, texts, strict=True):
        colour = class_colour(int(number))
        # An edge lies between two pixels: a frame is drawn on the last ones inside.
        inside = max(left, right - 1), max(top, bottom - 1)
        draw.rectangle((left, top, *inside), outline=colour)
        draw.text((left + 2, top + 1), drawable(text), fill=colour, stroke_width=1, stroke_fill="black")
    return np.asarray(sheet)


def caption(image_HWC: np.ndarray, text: str, number: int) -> np.ndarray:
    """A copy of the picture with a text at its top left, in the colour of a class."""
    sheet = Image.fromarray(image_HWC)
    colour = class_colour(number)
    ImageDraw.Draw(sheet).text((2, 1), drawable(text), fill=colour, stroke_width=1, stroke_fill="black")
    return np.asarray(sheet)


def class_colour(number: int) -> tuple[int, int, int]:
    """Red, green, blue of a class id."""
    hue, value = number * GOLDEN_ANGLE % 1.0, 0.95 - 0.25 * (number % 2)
    red, green, blue = (round(255 * share) for share in colorsys.hsv_to_rgb(hue, 0.65, value))
    return red, green, blue


def colour_classes(label_HW: np.ndarray, num_classes: int) -> np.ndarray:
    """Class ids as colours; ignored pixels black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    for number in range(min(num_classes, IGNORE)):
        table[number] = class_colour(number)
    coloured: np.ndarray = table[label_HW]
    return coloured
