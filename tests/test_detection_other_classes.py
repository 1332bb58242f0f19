"""A teacher that tells other classes apart than the data: its features teach, its scores are refused, by the
commands that a user types."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from painted_objects import painted_set, write_coco
from safetensors.torch import save_file
from torchvision.models import get_model

from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain

NETWORK = "gfl(width=16,convs=1):test_resnet"
SHORT = ["--weights", "none", "--batch-size", "4", "--steps", "1", "--threads", "1", "--log", "none"]
STUDENT = ["--student", NETWORK, *SHORT]
ON_CPU = ["--device", "cpu"]
FPN = ("p3", "p4", "p5", "p6", "p7")


def typed(program: object, *words: str) -> str:
    result: Result = CliRunner().invoke(program, list(words), catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output + result.stderr
    return " ".join(result.output.split())


def refused(program: object, *words: str) -> str:
    result: Result = CliRunner().invoke(program, list(words), catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


def painted(root: Path, names: Sequence[str]) -> Path:
    """Three kinds of painted objects under these names."""
    for split, count, seed in (("train", 4, 0), ("val", 4, 50)):
        write_coco(root, painted_set(count, seed), split)
        listed = json.loads((root / f"{split}.json").read_text())
        for category, name in zip(listed["categories"], names, strict=True):
            category["name"] = name
        (root / f"{split}.json").write_text(json.dumps(listed))
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher `t` of disc, bar and cross; data of others, and of the same in another order."""
    home = tmp_path_factory.mktemp("home")
    painted(home / "own", ("disc", "bar", "cross"))
    painted(home / "other", ("disc", "beam", "cross"))
    painted(home / "turned", ("bar", "disc", "cross"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDCACHE_HOME", str(home))
        data = ["--data", f"coco:{home / 'own'}", "--crop", "64,96"]
        typed(kdtrain, *STUDENT, "--loss", "none", *data, "--run", "t")
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own with that run and these data."""
    for name in ("own", "other", "turned"):
        (tmp_path / name).symlink_to(made / name)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "t").symlink_to(made / "runs" / "t")
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    return tmp_path


def built(home: Path, *words: str, data: str = "other") -> tuple[str, Cache]:
    said = typed(kdcache, "build", "--teacher", "t", "--data", f"coco:{home / data}", *ON_CPU, *words)
    (root,) = (home / "caches").iterdir()
    return said, open_cache(root)


def test_its_features_are_what_a_build_keeps_and_says_why(home: Path) -> None:
    said, cache = built(home)
    assert cache.manifest.tap_names == FPN
    why = "class 1 is 'beam' in the data and 'bar' of the teacher: its features alone can teach, and fpn is"
    assert why in said and "of these images" not in said, "its boxes are not the data's to judge"


@pytest.mark.parametrize("loss", ["pkd", "fgd"])
def test_a_student_of_the_datas_classes_learns_its_features(home: Path, loss: str) -> None:
    _, cache = built(home, "--for", loss)
    assert set(cache.manifest.tap_names) <= set(FPN)
    said = typed(kdtrain, "--loss", loss, *STUDENT, "--run", "s")
    assert "finished 1 steps" in said and "val ap" in said
    card = json.loads((home / "runs" / "s" / "network.json").read_text())
    assert card["class_names"] == ["disc", "beam", "cross"] and "class_names" not in card["network"]
    typed(kdcache, "verify", "--deep")


@pytest.mark.parametrize("loss", ["bckd", "ld", "gid", "cwd"])
def test_a_loss_that_reads_its_scores_is_refused_by_the_first_name_that_differs(
    home: Path, loss: str
) -> None:
    built(home)
    error = refused(kdtrain, "--loss", loss, *STUDENT, "--run", "s")
    assert "class 1 is 'beam' in the data and 'bar' of the teacher" in error
    assert f"where: loss term '{loss}', which compares scores class by class" in error
    assert error.endswith("fix: train the teacher on these classes, or distil features: --loss pkd")


def test_bins_mean_the_same_whatever_the_classes(home: Path) -> None:
    """The scores that weigh them are the student's."""
    built(home, "--tap", "bins")
    assert "finished 1 steps" in typed(kdtrain, "--loss", "ld(kd=0)", *STUDENT, "--run", "s")


@pytest.mark.parametrize("words", [("--for", "bckd"), ("--tap", "cls"), ("--tap", "cls4")])
def test_its_scores_are_not_stored_for_anyone(home: Path, words: tuple[str, str]) -> None:
    asked = ["build", "--teacher", "t", "--data", f"coco:{home / 'other'}", *ON_CPU]
    error = refused(kdcache, *asked, *words)
    taps = "cls4" if words[1] == "cls4" else "cls3, cls4, cls5, cls6, cls7"
    assert error == (
        "error: class 1 is 'beam' in the data and 'bar' of the teacher "
        f"where: {taps}: scores by class of gfl(width=16,convs=1):test_resnet "
        "fix: train the teacher on these classes, or keep its features and distil those: --for pkd, then "
        "kdtrain --loss pkd"
    )
    assert not (home / "caches").exists()
    typed(kdcache, *asked, *shlex.split("--for pkd"))


def test_the_same_classes_in_another_order_are_other_classes(home: Path) -> None:
    said, _ = built(home, data="turned")
    assert "class 0 is 'bar' in the data and 'disc' of the teacher" in said
    assert "class 0 is 'bar' in the data" in refused(kdtrain, "--loss", "bckd", *STUDENT, "--run", "s")


def test_the_same_classes_are_not_remarked_on(home: Path) -> None:
    said, cache = built(home, data="own")
    assert cache.manifest.tap_names[0] == "cls3" and "of the teacher" not in said
    assert " on 3 of these images" in said
    assert "class_names" not in cache.manifest.network
    assert "finished 1 steps" in typed(kdtrain, "--loss", "bckd", *STUDENT, "--run", "s")


def test_a_live_teacher_of_other_classes_teaches_features_and_no_scores(home: Path) -> None:
    alive = ["--online", "--teacher", "t", "--data", f"coco:{home / 'other'}", "--crop", "64,96"]
    assert "finished 1 steps" in typed(kdtrain, "--loss", "pkd", *STUDENT, *alive, "--run", "s")
    error = refused(kdtrain, "--loss", "bckd", *STUDENT, *alive, "--run", "r")
    assert "class 1 is 'beam' in the data and 'bar' of the teacher" in error


def test_names_of_classes_are_no_part_of_a_caches_name(home: Path) -> None:
    """Whoever names them later, or another way, finds the cache that the weights made."""
    _, cache = built(home)
    assert "class_names" in cache.manifest.network
    assert "class_names" not in cache.manifest.identity["network"]
    said, grown = built(home, "--tap", "bins3")
    assert grown.root == cache.root and grown.manifest.tap_names == (*FPN, "bins3") and "wrote" in said


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as torchvision publishes them: 91 slots."""
    torch.manual_seed(0)
    state = get_model("fcos_resnet50_fpn", weights=None, weights_backbone=None, num_classes=91).state_dict()
    path = tmp_path_factory.mktemp("weights") / "fcos.safetensors"
    save_file({n: t.contiguous() for n, t in state.items() if "num_batches_tracked" not in n}, path)
    return path


@pytest.mark.slow
def test_a_detector_of_coco_teaches_other_data_its_features(home: Path, theirs: Path) -> None:
    """Its 80 classes are named as COCO does; nobody trained it here."""
    teacher = ["--teacher", "tv:fcos_resnet50_fpn", "--weights", str(theirs)]
    data = ["--data", f"coco:{home / 'own'}", "--crop", "64,64"]
    said = typed(kdcache, "build", *teacher, *data, *ON_CPU)
    assert "class 0 is 'disc' in the data and 'person' of the teacher: its features alone can teach" in said
    (root,) = (home / "caches").iterdir()
    manifest = open_cache(root).manifest
    assert manifest.tap_names == FPN and manifest.network["num_classes"] == 80
    assert manifest.network["class_names"][::79] == ["person", "toothbrush"]
    wide = ["--student", "gfl(convs=1):test_resnet", *SHORT]
    assert "finished 1 steps" in typed(kdtrain, "--loss", "pkd", *wide, "--run", "s")
    error = refused(kdtrain, "--loss", "bckd", *wide, "--run", "r")
    assert "class 0 is 'disc' in the data and 'person' of the teacher" in error
