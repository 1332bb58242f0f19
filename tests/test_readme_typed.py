"""The README's commands on segmentation and classification, typed as they stand there, on drawn data.

Encoders are small ones under the names of the README, so that runs are called as it says; what is added is in
`ADDED`. What the comments there promise is asserted. Detectors: test_readme_detection.py.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from class_data import draw_cifar100
from click.testing import CliRunner
from PIL import Image
from tiny_folder import draw_folder

from kdcache.cache.networks import names
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain

pytestmark = pytest.mark.slow  # seven runs of one step and two builds
README = (Path(__file__).parents[1] / "README.md").read_text()
PASSAGE = README.partition("\n## On your data\n")[2].partition("And detectors, ")[0]
SIZE = ["--crop", "64,64"]  # of runs on the data; a cache's students take its own
SHORT = ["--weights", "none", "--batch-size", "4", "--steps", "1", "--threads", "1", "--log", "none"]
ADDED = {
    "kdcache build": ["--device", "cpu", "--views", "crops:1"],
    "kdtrain sweep": ["--dry-run"],
    "kdtrain": SHORT,
}


def line(begin: str, text: str = PASSAGE) -> str:
    """The command of a passage that is this one, else the only one that begins so; without its comment."""
    shown = [one.partition(" #")[0].strip() for one in text.splitlines() if one.startswith(f"    {begin}")]
    if begin in shown:
        return begin
    (one,) = shown
    return one


def typed(home: Path, command: str, data: str = "data") -> str:
    """One command with the folder of the data filled in. Output of one space between words."""
    words = shlex.split(command.replace("DIR", str(home / data)))
    kind = next(kind for kind in ADDED if command.startswith(kind))
    fresh = kind == "kdtrain" and "--data" in words
    more = [*ADDED[kind], *(SIZE if fresh and "cifar" not in command else [])]
    result = CliRunner().invoke(
        kdcache if words[0] == "kdcache" else kdtrain, [*words[1:], *more], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output + result.stderr
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def small_names() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for short in names.SHORT_NAMES:
            patch.setitem(names.SHORT_NAMES, short, "test_resnet")
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, small_names: None) -> Iterator[Path]:
    """The first three commands of the passage."""
    home = tmp_path_factory.mktemp("home")
    for split, count in (("train", 4), ("val", 2)):
        draw_folder(home / "data", count, split)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDCACHE_HOME", str(home))
        patch.chdir(home)
        assert "finished 1 steps" in typed(home, line("kdtrain --student r50 --loss none --data camvid:DIR"))
        assert "teacher 'r50' is the run" in typed(home, line("kdcache build --teacher r50"))
        yield home


def the_cache(home: Path) -> Cache:
    (root,) = (home / "caches").iterdir()
    return open_cache(root)


def test_data_and_classes_of_a_cache_come_from_its_teachers_run(home: Path) -> None:
    manifest = the_cache(home).manifest
    assert manifest.data["name"] == "camvid" and manifest.class_names[8] == "car"
    assert manifest.crop == (64, 64)


def test_a_student_needs_nothing_but_a_loss_and_no_teacher_is_there(home: Path) -> None:
    """The teacher's run is away meanwhile: what it said is all that is read."""
    (home / "runs" / "r50").rename(home / "away")
    try:
        said = typed(home, line("kdtrain --loss afdcd"))
    finally:
        (home / "away").rename(home / "runs" / "r50")
    assert "finished 1 steps" in said and (home / "runs" / "r18-afdcd").is_dir()


def test_another_ablation_reads_the_same_cache_and_changes_nothing_in_it(home: Path) -> None:
    before = {f: f.stat().st_mtime_ns for f in the_cache(home).root.rglob("*")}
    assert "finished 1 steps" in typed(home, line("kdtrain --loss cwd+kd --student mbv2"))
    assert {f: f.stat().st_mtime_ns for f in the_cache(home).root.rglob("*")} == before


def test_the_same_step_with_the_teacher_alive(home: Path) -> None:
    said = typed(home, line("kdtrain --loss afdcd --online") + " --run alive")
    assert "finished 1 steps" in said


def test_a_cache_is_named_by_teacher_and_data(home: Path) -> None:
    command = line('kdtrain --loss afdcd --cache "r50 camvid"')
    assert "finished 1 steps" in typed(home, f"{command} --run named")


def test_a_sweep_has_none_beside_every_cell(home: Path) -> None:
    passage = README.partition("\n## An ablation\n")[2].partition("\n## ")[0]
    said = typed(home, line("kdtrain sweep --loss kd,cwd,afdcd --student r18,mbv2 --seeds 3", passage))
    runs = re.findall(r"--run (sweep-\S+)", said)
    assert len(runs) == 2 * 3 * (3 + 2), "losses, and none on stored and on fresh views"
    for left in ("kdtrain predict", "kdtrain export"):
        assert line(left, passage).split()[2] in runs
    together = typed(home, line("kdtrain sweep --loss kd,cwd,afdcd --student r18,mbv2 --together 4", passage))
    assert len(set(re.findall(r"--seed (\d+)", together))) == 1


@pytest.mark.parametrize("kind", ["folder:DIR", "my_source:Streets:DIR"])
def test_images_of_your_own(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_names: None
) -> None:
    """Labels of values 7 and 8 by `classes.toml`, and by the class of docs/own.md."""
    own = (Path(__file__).parents[1] / "docs" / "own.md").read_text()
    (source,) = [b for b in re.findall(r"```python\n(.*?)```", own, re.DOTALL) if "class Streets" in b]
    (tmp_path / "my_source.py").write_text(source)
    draw_values(tmp_path / "data")
    if kind.startswith("folder"):
        classes = "".join(f'[[class]]\nname = "{n}"\nid = {i}\n' for n, i in (("road", 7), ("pavement", 8)))
        (tmp_path / "data" / "classes.toml").write_text(f"{classes}[ignore]\nid = 0\n")
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "finished 1 steps" in typed(tmp_path, line(f"kdtrain --student r50 --loss none --data {kind}"))


def draw_values(root: Path) -> None:
    for split in ("train", "val"):
        draw_folder(root, 4, split)
        for path in (root / split / "labels").iterdir():
            with Image.open(path) as image:
                ids = np.asarray(image)
            Image.fromarray(np.select([ids == 0, ids == 1], [7, 8]).astype(np.uint8)).save(path)
    (root / "classes.txt").unlink()


def test_a_cifar_network_teaches_a_smaller_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_cifar100(tmp_path / "data")
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert "finished 1 steps" in typed(tmp_path, line("kdtrain --student resnet32x4 --loss none"))
    built = typed(tmp_path, line("kdcache build --teacher t --for kd,crd,reviewkd"))
    taps = the_cache(tmp_path).manifest.tap_names
    assert {"logits", "embedding", "pre1"} <= set(taps), built
    said = typed(tmp_path, line("kdtrain --loss 'crd+kd(weight=1)' --student resnet8x4"))
    assert "finished 1 steps" in said
