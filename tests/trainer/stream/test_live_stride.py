"""--online --teacher T: without --output-stride the student has the stride of the teacher that is meant."""

from pathlib import Path

import pytest
from tiny_folder import CLASSES, draw_folder

from kdcache.cache.errors import Missing
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.networks.run_card import RunCard, save_run_network
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.stream.run_source import open_run_source


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs 'fine' of stride 8 and 'coarse' of stride 16 beside a dataset."""
    root: Path = tmp_path_factory.mktemp("home")
    draw_folder(root / "drawn", count=2)
    for name, stride in (("fine", 8), ("coarse", 16)):
        network = build_network("mbv2", task=SEGMENTATION, num_classes=len(CLASSES), output_stride=stride)
        card = RunCard(
            network={}, data="folder:drawn", class_names=CLASSES, crop=(32, 32), output_stride=stride
        )
        save_run_network(root / "runs" / name, network, card)
    return root


def student_stride(home: Path, teacher: str | None, **options: int) -> int | None:
    live = {} if teacher is None else {"online": True, "teacher": teacher}
    config = TrainConfig(run="r", data=f"folder:{home / 'drawn'}", **live, **options)  # type: ignore[arg-type]
    return open_run_source(config, home, output_stride=config.output_stride).output_stride


def test_a_run_by_its_name(home: Path) -> None:
    assert student_stride(home, "coarse") == 16
    assert student_stride(home, "fine") == 8


def test_a_run_by_a_path_from_the_current_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert student_stride(home, "runs/coarse") == 16
    monkeypatch.chdir(home / "runs")
    assert student_stride(home, "./coarse") == 16
    monkeypatch.chdir(home / "drawn")
    assert student_stride(home, "../runs/coarse") == 16
    assert student_stride(home, str(home / "runs" / "coarse")) == 16


@pytest.mark.parametrize("teacher", ["fine,coarse", "coarse,fine", "fine, coarse", "mbv2,coarse"])
def test_an_ensemble_has_the_stride_that_it_would_record_in_a_cache(home: Path, teacher: str) -> None:
    assert student_stride(home, teacher) == 16


def test_an_ensemble_of_paths(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert student_stride(home, "runs/coarse,runs/fine") == 16


def test_the_stride_is_that_of_the_ensemble_that_teaches(home: Path) -> None:
    network, _, _ = resolve_teacher("fine,coarse", home / "runs", task=SEGMENTATION, num_classes=len(CLASSES))
    assert student_stride(home, "fine,coarse") == network.output_stride


def test_without_a_run_it_is_8_and_what_a_user_gives_comes_first(home: Path) -> None:
    assert student_stride(home, None) == 8
    assert student_stride(home, "tv:deeplabv3_resnet101") == 8
    assert student_stride(home, "coarse", output_stride=8) == 8


def test_a_run_without_a_network_is_said_before_anything_is_built(home: Path) -> None:
    (home / "runs" / "begun").mkdir(exist_ok=True)
    with pytest.raises(Missing, match="run 'begun' has no trained network yet") as error:
        student_stride(home, "begun")
    assert "--resume" in error.value.fix
