"""A small cache of painted objects, whole on their canvas and in crops, and what a batch of it must show."""

from pathlib import Path

import numpy as np
from painted_objects import COLOURS, GREY, Painted, painted_set, write_coco

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.spec import Need
from kdcache.cache.views.view import Geometry

NUM_IMAGES, CANVAS = 8, (96, 160)
TAPS = ("cls3=int8", "box3=fp16", "cls4=fp32")
NEEDS = tuple(Need(tap=tap.partition("=")[0]) for tap in TAPS)
CROPS = "fit=0.3x2,flip,jitter=0.15"
RAMP_PX = 1.0  # half a ramp of bilinear sampling at either side of an edge
_PALETTE_K3 = np.concatenate([[GREY], COLOURS]).astype(np.float64)  # 0 is no object


def painted_images() -> list[Painted]:
    return painted_set(NUM_IMAGES)


def build_painted_cache(folder: Path, target_format: str, **changes: object) -> Cache:
    """Fit and mirror views and three crops of every image, also of those without an object."""
    write_coco(folder / "data", painted_images())
    options: dict[str, object] = {
        "runs_dir": folder / "runs",
        "caches_dir": folder / target_format,
        "teacher": "tiny_detector:make",
        "data": f"coco:{folder / 'data'}",
        "views": "fit+crops:3",
        "mirror": True,
        "augment": CROPS,
        "crop": CANVAS,
        "taps": tuple(parse_tap(tap) for tap in TAPS),
        "target_format": target_format,
        "batch_size": 3,
        "shard_rows": 3,
        "keep_empty": True,
    }
    return open_cache(build_cache(BuildOptions(**(options | changes))).root)  # type: ignore[arg-type]


def owners(image_HWC: np.ndarray) -> np.ndarray:
    """(H, W): the number from 1 of the object whose colour a cell is nearest to, 0 for none."""
    distance_HWK = ((image_HWC[:, :, None].astype(np.float64) - _PALETTE_K3) ** 2).sum(axis=3)
    nearest: np.ndarray = distance_HWK.argmin(axis=2)
    return nearest


def assert_boxes_are_those_of_the_pixels(
    image_HWC: np.ndarray, truth_M5: np.ndarray, painted: Painted, geometry: Geometry
) -> int:
    """Each box encloses exactly the cells of one object's colour and has its class; no object of which a
    tenth is shown is without one. Gives the number of boxes."""
    owner_HW = owners(image_HWC)
    boxes_M5 = truth_M5[truth_M5[:, 4] >= 0]
    enclosed: set[int] = set()
    for box in boxes_M5:
        number = _painted_in(owner_HW, box)
        assert number and number not in enclosed, f"box {box} shows no object of its own"
        enclosed.add(number)
        edges = _extent(owner_HW == number)
        assert np.abs(box[:4] - edges).max() <= RAMP_PX, f"box {box} is not around {edges}"
        assert box[4] == painted.classes_M[number - 1], f"object {number} has class {box[4]}"
    for number, (x1, y1, x2, y2) in enumerate(painted.boxes_M4, start=1):
        cells_HW = owner_HW == number
        size = painted.pixels_HWC.shape[:2]
        scale = geometry.resize_h / size[0] * geometry.resize_w / size[1]
        share = cells_HW.sum() / ((x2 - x1) * (y2 - y1) * scale)
        assert number not in enclosed or share > 0.05, f"{share:.3f} of object {number} is no object"
        if cells_HW.any() and share >= 0.1:
            left, top, right, bottom = _extent(cells_HW)
            # A row or column of cells more or less is the ramp's: such objects are left to unit tests.
            least = min(right - left, bottom - top)
            clear = least >= 4 and share * (1 - 1 / least) >= 0.1
            assert not clear or number in enclosed, f"{share:.3f} of object {number} has no box"
    return len(boxes_M5)


def _painted_in(owner_HW: np.ndarray, box: np.ndarray) -> int:
    """The object that most of a box's inner cells belong to."""
    left, top, right, bottom = box[:4].round().astype(int)
    inner = owner_HW[top : max(bottom, top + 1), left : max(right, left + 1)]
    return int(np.bincount(inner.reshape(-1), minlength=2).argmax()) if inner.size else 0


def _extent(cells_HW: np.ndarray) -> np.ndarray:
    """Edges of the cells: left, top, right, bottom."""
    rows, columns = np.flatnonzero(cells_HW.any(axis=1)), np.flatnonzero(cells_HW.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)
