"""From a folder of boxes to an AP, by the commands that a user types: a teacher, its cache, students of every
method, what is shown, what is judged; killed and resumed, and with other options refused."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from dying_step import dies_in_step
from painted_objects import painted_set, write_coco
from PIL import Image

from kdcache.cache.errors import BadOption
from kdcache.cache.reader.cache import open_cache
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.run import train_run

NETWORK = "gfl(width=16,convs=1):test_resnet"
SHORT = ["--weights", "none", "--batch-size", "4", "--steps", "2", "--threads", "1"]
METHODS = (
    "bckd",
    "ld",
    "gid",
    "fgd",
    "pkd",
    "mgd",
    "gdd",
    "cwd",
    "cwd(taps=fpn)",
    "fitnet",
    "at",
    "bckd+pkd",
)


def typed(program: object, *words: str) -> str:
    result: Result = CliRunner().invoke(program, list(words), catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output + result.stderr
    return result.output


def refused(program: object, *words: str) -> str:
    result: Result = CliRunner().invoke(program, list(words), catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with painted data, a teacher `t` and its cache of the default taps and views."""
    home = tmp_path_factory.mktemp("home")
    write_coco(home / "data", painted_set(8), "train")
    write_coco(home / "data", painted_set(4, 50), "val")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDCACHE_HOME", str(home))
        data = ["--data", f"coco:{home / 'data'}", "--crop", "64,96"]
        typed(kdtrain, "--student", NETWORK, "--loss", "none", *data, "--run", "t", *SHORT)
        typed(kdcache, "build", "--teacher", "t", "--device", "cpu")
    return home


@pytest.fixture
def home(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KDCACHE_HOME", str(made))
    return made


def test_a_cache_holds_what_bckd_reads_under_both_views_that_published_training_draws(home: Path) -> None:
    (root,) = (home / "caches").iterdir()
    cache = open_cache(root)
    assert [(views.kind, views.count) for views in cache.manifest.views] == [("fit", 1), ("fit-mirror", 1)]
    codecs = {
        tap.name: tap.codec for tap in cache.manifest.taps if tap.name in ("cls3", "box3", "cls7", "box7")
    }
    assert codecs == dict.fromkeys(("cls3", "box3", "cls7", "box7"), "fp16")
    assert cache.generation.num_living == 6, "two of eight images hold no object"
    assert "bckd" in typed(kdcache, "show").partition("losses it can serve: ")[2]
    typed(kdcache, "verify", "--deep", "--pixels")


def test_what_is_missing_is_added_by_the_command_that_the_error_prints(home: Path) -> None:
    student = ["--student", NETWORK, *SHORT]
    error = refused(kdtrain, "--loss", "ld", *student)
    assert "the loss needs 'bins'" in error
    line = error.partition("with: ")[2]
    typed(kdcache, *shlex.split(line)[1:])
    assert "ld.main" in typed(kdtrain, "--loss", "ld", "--run", "added", *student)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_student_learns_by_every_method_without_a_teacher_in_memory(home: Path, method: str) -> None:
    typed(kdcache, "build", "--for", "ld,fgd")
    output = typed(
        kdtrain, "--loss", method, "--student", NETWORK, "--run", f"by {method}".replace("/", "-"), *SHORT
    )
    assert "val ap" in output and "finished 2 steps" in output
    assert "nan" not in output.partition("step 1/2 loss")[2].partition(")")[0]


@pytest.mark.parametrize("family", ["retinanet", "fcos", "atss"])
def test_a_detector_of_another_head_learns_the_features(home: Path, family: str) -> None:
    typed(kdcache, "build", "--for", "at")
    network = f"{family}:test_resnet"
    output = typed(
        kdtrain, "--loss", "at(taps=fpn)", "--student", network, "--run", f"other {family}", *SHORT
    )
    assert "finished 2 steps" in output
    if family == "retinanet":
        error = refused(kdtrain, "--loss", "bckd", "--student", network, "--run", "nine", *SHORT)
        assert "anchors per cell: 9 of the student and 1 of the teacher" in error


def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        "student": NETWORK, "weights": "none", "loss": "bckd", "steps": 4, "batch_size": 4, "save_every": 1,
        "device": "cpu", "log": "none",
    }  # fmt: skip
    train_run({**options, "run": "whole"}, home=home)
    dies_in_step(2, lambda: train_run({**options, "run": "killed"}, home=home), monkeypatch)
    train_run({"run": "killed"}, home=home, resume=True)
    whole, killed = (home / "runs" / name for name in ("whole", "killed"))
    for name in ("student.safetensors",):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()
    last = [(list_checkpoints(one)[-1] / "digests.json").read_text() for one in (whole, killed)]
    assert last[0] == last[1]


def test_boxes_of_a_run_are_written_in_cocos_form_and_figures_as_plain_json(home: Path) -> None:
    out, figures = home / "out.json", home / "figures.json"
    typed(kdtrain, "eval", "t", "--json", str(out), "--out", str(figures))
    said = json.loads(out.read_text())
    assert isinstance(said, list)
    ids = {one["id"] for one in json.loads((home / "data" / "val.json").read_text())["images"]}
    assert {one["image_id"] for one in said} <= ids and {one["category_id"] for one in said} <= {3, 5, 90}

    def never(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    read = json.loads(figures.read_text(), parse_constant=never)
    assert set(read["per_class_ap"]) == {"disc", "bar", "cross"} and 0 <= read["ap"] <= 1


def test_a_sample_is_drawn_with_its_boxes_and_the_teachers(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.png"
    titles = " ".join(typed(kdcache, "peek", "train00", "--out", str(out)).split())
    assert "image, label, teacher, cls3 8x12x3" in titles
    with Image.open(out) as sheet:
        drawn = np.asarray(sheet)
    wide = drawn.shape[1] // 6
    image, label = drawn[18:-1, : wide - 2], drawn[18:-1, wide : 2 * wide - 2]
    assert drawn.shape[1] == 6 * wide and (image[:210] != label[:210]).any(), "the boxes are on their image"


@pytest.mark.parametrize("loss", ["kd", "dkd", "dist"])
def test_a_softmax_over_classes_is_refused_with_bckds_reason(home: Path, loss: str) -> None:
    error = refused(kdtrain, "--loss", loss, "--student", NETWORK, *SHORT)
    assert "is the inconsistency that bckd removes" in error and "--loss bckd" in error


def test_every_target_that_is_missing_is_named_at_once(home: Path) -> None:
    """By kind, so that one command adds them all."""
    (root,) = (home / "caches").iterdir()
    cache = open_cache(root)
    with pytest.raises(BadOption) as error:
        cache.require(["ctr3", "ctr4", "cls3", "stage9"])
    assert "needs 'ctr' and 'stage9'" in error.value.what
    assert error.value.fix.endswith("--tap ctr --tap stage9")


def test_bckd_changes_the_task_loss_of_gfl_and_says_so(home: Path) -> None:
    words = ["--student", NETWORK, *SHORT]
    said = " ".join(typed(kdtrain, "--loss", "bckd", "--run", "as published", *words).split())
    assert "weighed in BCKD's form" in said and "score=auto" in said
    own = " ".join(typed(kdtrain, "--loss", "bckd+task(score=own)", "--run", "as gfl", *words).split())
    assert "weighed in BCKD's form" not in own


@pytest.mark.parametrize(("crop", "said"), [("96,64", False), ("64,512", True), ("320,64", True)])
def test_a_canvas_that_is_mostly_padding_is_said_before_the_teacher_runs(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crop: str, said: bool
) -> None:
    """Wide or tall beyond the images: the teacher would spend most of its time on grey."""
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    teacher = str(made / "runs" / "t")
    output = " ".join(
        typed(kdcache, "build", "--teacher", teacher, "--crop", crop, "--device", "cpu").split()
    )
    assert ("of the canvas is padding, on average" in output) == said
    if said:
        assert 50 < int(output.partition("% of the canvas")[0][-2:]) < 95


def test_pkd_stores_the_four_levels_that_it_reads_and_reads_no_more_of_a_cache_that_has_them(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is named by its levels too, and p7 is added for a loss that reads it."""
    (tmp_path / "runs").symlink_to(made / "runs")
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    student = ["--student", NETWORK, *SHORT]
    typed(kdcache, "build", "--teacher", "t", "--device", "cpu", "--tap", "box3")
    error = refused(kdtrain, "--loss", "pkd", *student)
    assert error.endswith("--tap p3 --tap p4 --tap p5 --tap p6")
    typed(kdcache, "build", "--for", "pkd")
    (root,) = (tmp_path / "caches").iterdir()
    assert open_cache(root).manifest.tap_names == ("box3", "p3", "p4", "p5", "p6")
    four = typed(kdtrain, "--loss", "pkd", "--run", "four", *student)
    assert "p3, p4, p5, p6 from the cache" in " ".join(four.split())
    assert refused(kdtrain, "--loss", "fgd", *student).endswith("--tap fpn")
    assert "pkd" in typed(kdcache, "show").partition("losses it can serve: ")[2]
    typed(kdcache, "build", "--for", "fgd")
    typed(kdtrain, "--loss", "pkd", "--run", "five", *student)
    one, other = (
        (tmp_path / "runs" / name / "student.safetensors").read_bytes() for name in ("four", "five")
    )
    assert one == other
    typed(kdtrain, "--loss", "pkd(levels=all)", "--run", "all", *student)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_bad_box_or_a_missing_image_is_said_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    """Of the split that is judged, too, by a run and by an evaluation."""
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    folder = tmp_path / "data"
    for name, count, seed in (("train", 8, 0), ("val", 4, 50)):
        write_coco(folder, painted_set(count, seed), name)
    words = ["--student", NETWORK, "--loss", "none", "--data", f"coco:{folder}", "--crop", "64,96", *SHORT]
    typed(kdtrain, *words, "--run", "good")
    path = next(one for one in folder.rglob("*.json") if split in one.name)
    content = json.loads(path.read_text())
    content["annotations"][-1]["bbox"][2] = -4
    path.write_text(json.dumps(content))
    said = refused(kdtrain, *words, "--run", "bad")
    assert "is -4 wide and" in said and f"samples of '{split}' cannot be used" in said
    assert not (tmp_path / "runs/bad/metrics.jsonl").exists()
    if split == "val":
        assert "is -4 wide and" in refused(kdtrain, "eval", "good")
