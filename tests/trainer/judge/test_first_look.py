"""A teacher of objects is judged on a few images before its answers are stored, and what is stored is the
same."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from painted_objects import painted_set, write_coco
from torch import Tensor, nn

from kdcache.cache.boxes import follow
from kdcache.cache.grid import DenseGrid
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.ensemble import Ensemble
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.table import open_source
from kdcache.cache.views.draw import fit_view
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.judge import first_look as module
from kdcache.trainer.judge.first_look import first_look, spread

CANVAS, STRIDE = (64, 96), 2
CHOSEN = [number * 54 // 32 for number in range(32)]
NETWORK = "gfl(width=16,convs=1):test_resnet"


class Knows(nn.Module):
    """Says the boxes of the source's images, which it is shown in the order of `indices`."""

    def __init__(self, source: Source, indices: Sequence[int], turn: int = 0) -> None:
        super().__init__()
        self.grid = DenseGrid(levels=(3,), strides=(STRIDE,))
        self.taps = {"cls3": "", "box3": ""}
        self.source, self.indices, self.turn = source, list(indices), turn
        self.modes: list[bool] = []

    def forward(self, images_BHWC: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        self.modes.append(self.training)
        shown, self.indices = self.indices[: len(images_BHWC)], self.indices[len(images_BHWC) :]
        rows = [self._maps(index) for index in shown]
        return {"cls3": torch.stack([cls for cls, _ in rows]), "box3": torch.stack([box for _, box in rows])}

    def _maps(self, index: int) -> tuple[Tensor, Tensor]:
        cells = tuple(side // STRIDE for side in CANVAS)
        cls_CHW, box_CHW = torch.full((3, *cells), -20.0), torch.zeros((4, *cells))
        size = self.source.size(index)
        truth_M8 = module.SourceSamples(self.source).truth(index)
        boxes_M4 = follow(truth_M8[:, :4], fit_view(*size, CANVAS).geometry(*size), size)
        for box, kind in zip(boxes_M4 / STRIDE, truth_M8[:, 4].astype(int), strict=True):
            x, y = (int((box[axis] + box[axis + 2]) / 2) for axis in (0, 1))
            cls_CHW[(kind + self.turn) % 3, y, x] = 10.0
            box_CHW[:, y, x] = torch.tensor([x - box[0], y - box[1], box[2] - x, box[3] - y])
        return cls_CHW, box_CHW


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """54 images, 40 of them with objects."""
    root = write_coco(tmp_path_factory.mktemp("data"), painted_set(54), "train")
    return open_source(f"coco:{root}", "train")


def looked(network: nn.Module, source: Source) -> str:
    return first_look(network, source, input_size=CANVAS, device="cpu", batch_size=5)


def test_a_teacher_that_knows_is_told_so_on_32_images_spread_over_the_data(source: Source) -> None:
    network = Knows(source, CHOSEN).train()
    assert looked(network, source) == "ap 100.00 % on 32 of these images"
    assert not network.indices and network.training and not any(network.modes)


def test_classes_in_another_order_are_a_score_of_nothing_and_named_among_the_causes(source: Source) -> None:
    network = Knows(source, CHOSEN, turn=1)
    said = looked(network, source)
    assert said.startswith("ap 0.00 % on 32 of these images: a teacher that finds nothing")
    assert "classes stand in another order" in said and "mean and deviation" in said


def test_all_of_few_images_and_never_one_twice() -> None:
    assert spread(3, 32).tolist() == [0, 1, 2] and spread(0, 32).tolist() == []
    assert spread(64, 32).tolist() == list(range(0, 64, 2)) and len(set(spread(33, 32).tolist())) == 32


def test_what_is_wrong_with_an_image_is_left_to_the_build(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Knows(source, range(32))
    monkeypatch.setattr(type(source), "image_bytes", lambda self, index: b"no image")
    assert looked(network, source).startswith("not judged beforehand: ")


def test_several_teachers_and_networks_without_boxes_are_not_judged(source: Source) -> None:
    one = build_network(NETWORK, task="detection", num_classes=3)
    assert looked(Ensemble("a,b", {"a": one, "b": one}), source) == ""
    assert looked(nn.Conv2d(3, 3, 1), source) == ""


def files_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def typed(program: object, *words: str) -> str:
    result = CliRunner().invoke(program, list(words), catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output + result.stderr
    return " ".join(result.output.split())


def test_a_build_says_it_once_and_stores_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_coco(tmp_path / "data", painted_set(4), "train")
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    typed(
        kdtrain, "--student", NETWORK, "--weights", "none", "--loss", "none", "--data",
        f"coco:{tmp_path / 'data'}", "--crop", "64,96", "--steps", "1", "--batch-size", "3", "--run", "t",
        "--log", "none", "--threads", "1",
    )  # fmt: skip
    (tmp_path / "blind").mkdir()
    (tmp_path / "blind" / "runs").symlink_to(tmp_path / "runs")
    build = ["build", "--teacher", "t", "--device", "cpu"]
    assert " on 3 of these images" in typed(kdcache, *build)
    assert "of these images" not in typed(kdcache, *build, "--tap", "bins3"), (
        "it was judged when it was begun"
    )
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path / "blind"))
    monkeypatch.setattr(module, "first_look", lambda *args, **options: "")
    typed(kdcache, *build), typed(kdcache, *build, "--tap", "bins3")
    looked_at, blind = (files_of(home / "caches") for home in (tmp_path, tmp_path / "blind"))
    assert looked_at == blind and len(blind) > 5


def test_a_build_waits_for_no_metrics_where_no_judge_looks_first() -> None:
    judges = "import kdcache.trainer.judge.classification, kdcache.trainer.judge.segmentation"
    code = f"import sys; {judges}; assert 'torchmetrics' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
