"""A source of somebody's own through the commands, for each task: built from, trained on, judged on; and
imported only where it was named or trusted."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from own_data import COUNTS, draw

from kdcache.cache.networks.run_card import read_run_card
from kdcache.cache.record.manifest import read_manifest
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.config import read_config

SHORT = ["--batch-size", "4", "--steps", "2", "--device", "cpu", "--log", "none"]
GFL = ["--student", "gfl(width=16,convs=1):test_resnet", "--weights", "none"]
TASKS = {  # options of the student, the teacher of the cache, a loss
    "Streets": (["--student", "tiny_teacher:make", "--crop", "48,48"], "tiny_teacher:make", "kd"),
    "Patches": (["--student", "tiny_classifier:make"], "tiny_classifier:make", "kd"),
    "Blobs": (GFL, "t", "bckd"),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    draw(tmp_path / "drawn")
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(program: object, *words: str) -> Result:
    return CliRunner().invoke(program, list(words), catch_exceptions=False)  # type: ignore[arg-type]


def done(program: object, *words: str) -> str:
    result = run(program, *words)
    assert result.exit_code == 0, result.output + result.stderr
    return result.output


def refusal(program: object, *words: str) -> list[str]:
    """The line that a command says to type, without the program."""
    result = run(program, *words)
    assert result.exit_code == 2, result.output
    assert "code of somebody's own, named in a file and not on this command line" in result.stderr
    (line,) = (one for one in result.stderr.splitlines() if "if you trust it: " in one)
    return shlex.split(line.partition("if you trust it: ")[2])[1:]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASKS)
def test_a_source_of_ones_own_trains_builds_distils_and_judges(home: Path, kind: str) -> None:
    student, teacher, loss = TASKS[kind]
    data = f"own_data:{kind}:drawn"
    said = done(kdtrain, "--data", data, "--loss", "none", "--run", "t", *student, *SHORT)
    assert f"own_data:{kind}:{home / 'drawn'}, {COUNTS['train']} samples" in " ".join(said.split())
    assert read_run_card(home / "runs/t").data == f"own_data:{kind}:{home / 'drawn'}"
    crop = [] if kind != "Streets" else ["--crop", "48,48"]
    built = ["build", "--teacher", teacher, "--device", "cpu", *crop]
    done(kdcache, *built, "--data", data)
    (cache,) = (home / "caches").iterdir()
    manifest = read_manifest(cache)
    assert cache.name.startswith(f"{kind}-") and manifest.data["name"] == f"own_data:{kind}"
    assert manifest.identity["label"] == "drawn"
    trained = ["--loss", loss, "--run", "s", *student, *SHORT]
    assert refusal(kdtrain, *trained) == [*trained, "--trust", f"own_data:{kind}"]
    done(kdtrain, *refusal(kdtrain, *trained))
    judged = ["eval", "s", "--out", "figures.json"]
    done(kdtrain, *refusal(kdtrain, *judged))
    assert json.loads((home / "figures.json").read_text())["num_images"] == COUNTS["val"]


@pytest.mark.slow
def test_resuming_and_growing_ask_again_for_consent(home: Path) -> None:
    words = ["--data", "own_data:Streets:drawn", "--loss", "none", "--run", "r", *TASKS["Streets"][0], *SHORT]
    done(kdtrain, *words)
    again = ["--run", "r", "--resume"]
    assert refusal(kdtrain, *again)[:3] == again
    done(kdtrain, *again, "--trust", "own_data")
    done(kdtrain, *words, "--resume")
    done(kdcache, "build", "--teacher", "tiny_teacher:make", "--data", "own_data:Streets:drawn", "--views",
         "crops:1", "--crop", "32,32", "--device", "cpu")  # fmt: skip
    grow = ["build", "--tap", "stage1", "--device", "cpu"]
    done(kdcache, *refusal(kdcache, *grow))


@pytest.mark.slow
def test_other_data_judge_a_run_and_its_later_evaluation(home: Path) -> None:
    """Two of the four pictures: the count says which data were judged."""
    shutil.copytree(home / "drawn", home / "fewer")
    for path in [*(home / "fewer/val").glob("p[01].*")]:
        path.unlink()
    words = ["--data", "own_data:Streets:drawn", "--loss", "none", "--run", "r", *TASKS["Streets"][0], *SHORT]
    said = done(kdtrain, *words, "--val-data", "own_data:Streets:fewer")
    spec = f"own_data:Streets:{home / 'fewer'}"
    assert f"judged on '{spec}'" in " ".join(said.split())
    assert read_config(home / "runs/r").val_data == spec
    for more, count in (([], 2), (["--data", "own_data:Streets:drawn"], 4), (["--split", "train"], 8)):
        done(kdtrain, "eval", "r", "--out", "f.json", "--trust", "own_data", *more)
        assert json.loads((home / "f.json").read_text())["num_images"] == count, more
    other = run(kdtrain, *words, "--val-data", "own_data:Streets:drawn", "--resume")
    assert other.exit_code == 2 and "--val-data" in other.stderr


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("own_data:Patches:drawn", "the data are for classification, the run for segmentation"),
        ("folder:named", "the data have also 'road' and lack 'sky'"),
    ],
)
def test_data_of_other_classes_judge_nothing(home: Path, spec: str, said: str) -> None:
    shutil.copytree(home / "drawn/val", home / "named/val/images", ignore=shutil.ignore_patterns("*.txt"))
    shutil.copytree(home / "drawn/val-masks", home / "named/val/labels")
    (home / "named/classes.txt").write_text("road\nground\nthing\n")
    refused = run(kdtrain, "--data", "own_data:Streets:drawn", "--loss", "none", "--run", "r",
                  *TASKS["Streets"][0], *SHORT, "--val-data", spec)  # fmt: skip
    assert refused.exit_code == 2, refused.output
    text = " ".join(refused.stderr.split())
    assert f"cannot judge what is trained on 'own_data:Streets:{home / 'drawn'}'" in text and said in text
    assert "where: --val-data" in text and "leave --val-data out" in text


def test_data_to_judge_on_that_are_not_there_stop_the_run(home: Path) -> None:
    refused = run(kdtrain, "--data", "own_data:Streets:drawn", "--loss", "none", "--run", "r",
                  *TASKS["Streets"][0], *SHORT, "--val-data", "folder:gone")  # fmt: skip
    assert refused.exit_code == 2 and "no folder images: the folder does not exist" in refused.stderr


TABLE = """
[[class]]
name = "sky"
id = 10
colour = "#101010"
[[class]]
name = "ground"
id = 20
[[class]]
name = "thing"
id = 30
[ignore]
id = 0
"""


@pytest.mark.slow
def test_another_class_map_is_another_cache_also_for_an_update(home: Path) -> None:
    for split in COUNTS:
        shutil.copytree(home / "drawn" / split, home / "own" / split / "images")
        shutil.copytree(home / f"drawn/{split}-masks", home / "own" / split / "labels")
    (home / "own/classes.toml").write_text(TABLE)
    build = ["build", "--teacher", "tiny_teacher:make", "--data", "folder:own", "--views", "crops:1",
             "--crop", "32,32", "--device", "cpu"]  # fmt: skip
    done(kdcache, *build)
    (first,) = (home / "caches").iterdir()
    done(kdcache, *build)
    assert [path.name for path in (home / "caches").iterdir()] == [first.name], "nothing changed"
    (home / "own/classes.toml").write_text(TABLE.replace("id = 20", "id = [20, 21]"))
    refused = run(kdcache, *build, "--cache", first.name, "--update")
    assert refused.exit_code == 2
    text = " ".join(refused.stderr.split())
    assert "the cache was made with source.class_map 0>255 10>0 20>1 30>2 255>255 #101010>0" in text
    assert "now it is 0>255 10>0 20>1 21>1 30>2" in text and "build without --cache" in text
    done(kdcache, *build)
    assert len(list((home / "caches").iterdir())) == 2


@pytest.mark.slow
def test_a_run_never_goes_on_with_labels_that_are_read_otherwise(home: Path) -> None:
    """The names of the classes stay: before, nothing noticed that two of them changed places."""
    for split in COUNTS:
        shutil.copytree(home / "drawn" / split, home / "mine" / split / "images")
        shutil.copytree(home / f"drawn/{split}-masks", home / "mine" / split / "labels")
    (home / "mine/classes.toml").write_text(TABLE)
    words = ["--data", "folder:mine", "--loss", "none", "--run", "labels", *TASKS["Streets"][0], *SHORT]
    done(kdtrain, *words)
    changed = TABLE.replace("id = 20", "id = 99").replace("id = 30", "id = 20").replace("id = 99", "id = 30")
    (home / "mine/classes.toml").write_text(changed)
    again = ["--run", "labels", "--resume"]
    refused = run(kdtrain, *again)
    text = " ".join(refused.stderr.split())
    assert refused.exit_code == 2 and "the labels of the data would be read otherwise" in text
    assert "put the data's list of classes back as it was" in text and "(--run NAME)" in text
    (home / "mine/classes.toml").write_text(TABLE)
    done(kdtrain, *again)
