"""The commands on detectors that the README shows, typed as they stand there, on painted data.

Encoders and heads are small ones under the names of the README, so that runs are called as it says; what is
added is listed in `ADDED`. What each comment there promises is asserted.
"""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from painted_objects import painted_set, write_coco

from kdcache.cache.networks import names
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain

README = (Path(__file__).parents[1] / "README.md").read_text()
SIZE = ["--crop", "64,96"]  # of runs on the data; a cache's students take its own
SHORT = ["--weights", "none", "--batch-size", "4", "--steps", "1", "--threads", "1", "--log", "none"]
ADDED = {"kdcache build": ["--device", "cpu"], "kdtrain eval": [], "kdtrain": SHORT}


def shown() -> list[str]:
    """The lines of the passage, without their comments."""
    passage = README.partition("And detectors, ")[2].partition("\n\n")[2].partition("\n\n")[0]
    return [line.partition(" #")[0].strip() for line in passage.splitlines()]


def typed(home: Path, line: str) -> str:
    """One line with the folder of the data filled in. Output of one space between words."""
    words = shlex.split(line.replace("DIR", str(home / "data")))
    kind = next(kind for kind in ADDED if line.startswith(kind))
    more = [*ADDED[kind], *(SIZE if kind == "kdtrain" and "--data" in words else [])]
    program = kdcache if words[0] == "kdcache" else kdtrain
    result = CliRunner().invoke(program, [*words[1:], *more], catch_exceptions=False)
    assert result.exit_code == 0, result.output + result.stderr
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Painted data, and the short names of encoders standing for a tiny one."""
    home = tmp_path_factory.mktemp("home")
    write_coco(home / "data", painted_set(4), "train")
    write_coco(home / "data", painted_set(2, 50), "val")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDCACHE_HOME", str(home))
        patch.chdir(home)
        for short in names.SHORT_NAMES:
            patch.setitem(names.SHORT_NAMES, short, "test_resnet")
        for option, small in (("width", 16), ("convs", 1)):
            patch.setitem(names.OPTIONS["gfl"], option, names.OPTIONS["gfl"][option]._replace(default=small))
        yield home


def the_cache(home: Path) -> Cache:
    (root,) = (home / "caches").iterdir()
    return open_cache(root)


def stored(home: Path) -> dict[str, int]:
    root = the_cache(home).root
    return {f.relative_to(root).as_posix(): f.stat().st_ino for f in root.rglob("*") if "targets" in str(f)}


def test_each_line_does_what_stands_behind_it(home: Path) -> None:
    teacher, build, student, grow, both, judged, coco = shown()
    assert "val ap" in typed(home, teacher)

    typed(home, build)  # whole images and their mirror images; classes and boxes
    manifest = the_cache(home).manifest
    assert [views.kind for views in manifest.views] == ["fit", "fit-mirror"]
    kinds = ["cls", "box"]
    assert manifest.tap_names == tuple(f"{kind}{level}" for kind in kinds for level in range(3, 8))

    assert "finished 1 steps" in typed(home, student)  # r18 alone means gfl:r18 there
    short = typed(home, f"{student.replace('gfl:r18', 'r18')} --run short")
    assert "gfl:test_resnet" in short

    before = stored(home)  # adds bins and features, computes nothing twice
    typed(home, grow)
    added = set(the_cache(home).manifest.tap_names) - set(manifest.tap_names)
    assert added == {"bins3", "bins4", "bins5", "bins6", "bins7", "p3", "p4", "p5", "p6"}
    assert before and before.items() <= stored(home).items()

    assert "finished 1 steps" in typed(home, both)
    assert "ap " in typed(home, judged)  # AP as COCO counts it, and every box
    boxes = json.loads((home / "boxes.json").read_text())
    assert all(set(one) == {"image_id", "category_id", "bbox", "score"} for one in boxes)
    assert coco.startswith("kdcache build --teacher tv:"), (
        "tests/test_detection_other_classes.py builds from it"
    )


@pytest.mark.parametrize(
    "family", re.findall(r"# ((?:\w+:, )+\w+:) on any timm encoder", README)[0].split(", ")
)
def test_every_family_of_the_first_line_is_a_student_of_any_encoder(home: Path, family: str) -> None:
    line = (
        shown()[0].replace("gfl:r50", f"{family}test_efficientnet").replace("--run t", f"--run {family[:-1]}")
    )
    assert "finished 1 steps" in typed(home, line)


def test_data_of_each_kind_that_the_passage_names_are_a_source() -> None:
    from kdcache.cache.sources.table import SOURCES

    (line,) = [line for line in README.splitlines() if line.startswith("Detection data: ")]
    named = re.findall(r"`([\w-]+)`", line)
    assert sorted(named) == sorted(n for n, source in SOURCES.items() if source.task == "detection")
