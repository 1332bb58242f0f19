"""`--json` and `--quiet`: another program reads one document, or a line per event, and nothing else."""

import json
import math
from pathlib import Path

import pytest
from class_data import draw_npz
from click.testing import CliRunner, Result

from kdcache.cache.reader.cache import open_cache
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.cli.terminal import Terminal

BUILD = "build --teacher tiny_classifier:make --data npz:small --views crops:1 --device cpu".split()
TRAIN = "--student resnet8 --loss kd --steps 3 --batch-size 4 --device cpu".split()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    draw_npz(tmp_path / "small")
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(group: object, *words: str) -> Result:
    done = CliRunner().invoke(group, list(words))  # type: ignore[arg-type]
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_build_show_and_verify_answer_one_document_each(home: Path) -> None:
    made = json.loads(run(kdcache, *BUILD, "--json").stdout)
    cache = open_cache(home / "caches" / made["name"])
    assert (made["rows"], made["shards"], made["generation"]) == (18, 1, 1)
    shown = json.loads(run(kdcache, "show", "--json").stdout)
    assert shown["samples"] == 18 and shown["class_names"] == list(cache.manifest.class_names)
    assert [tap["name"] for tap in shown["taps"]] == list(cache.manifest.tap_names)
    assert [tap["digest"] for tap in shown["taps"]] == [tap.digest for tap in cache.manifest.taps]
    files = [path for path in (cache.root / "targets.zarr").rglob("*") if path.is_file()]
    on_disk = sum(path.stat().st_size for path in files if path.name != "zarr.json")
    assert shown["bytes"] == sum(tap["bytes"] for tap in shown["taps"]) == on_disk
    assert "kd" in shown["losses"]["any_student"] and "kd-topk" in shown["losses"]["refused"]
    keys = json.loads(run(kdcache, "show", "--json", "--keys").stdout)["keys"]
    assert keys == [cache.key(index) for index in range(18)]
    verified = json.loads(run(kdcache, "verify", "--json").stdout)
    assert verified["good"] is True and "0 damaged" in verified["said"][-1]


def test_verify_says_in_the_document_and_by_its_status_that_something_is_damaged(home: Path) -> None:
    run(kdcache, *BUILD)
    (tar,) = (home / "caches").glob("*/samples/*.tar")
    tar.write_bytes(tar.read_bytes()[:-1] + b"x")
    done = run(kdcache, "verify", "--json")
    assert done.exit_code == 1 and json.loads(done.stdout)["good"] is False
    done = run(kdcache, "verify", "--quiet")
    assert (done.exit_code, done.output) == (1, "")


def test_training_tells_its_events_as_lines_of_json(home: Path) -> None:
    assert run(kdcache, *BUILD, "--quiet").output == ""
    done = run(kdtrain, *TRAIN, "--json", "--run", "r")
    assert done.exit_code == 0, done.output
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["event"] for one in events if one["event"] != "saved"] == [
        *("started", "steps", "steps", "steps", "evaluated", "finished")
    ]
    steps = [one for one in events if one["event"] == "steps"]
    assert [one["step"] for one in steps] == [1, 2, 3]
    for one in steps:
        terms = dict(one["terms"])
        assert terms.pop("total") == pytest.approx(sum(terms.values()), rel=1e-4)


def test_a_quiet_run_says_nothing_and_does_the_same(home: Path) -> None:
    run(kdcache, *BUILD)
    loud, quiet = run(kdtrain, *TRAIN, "--run", "a"), run(kdtrain, *TRAIN, "--run", "b", "--quiet")
    assert "finished 3 steps" in loud.output and quiet.output == ""
    students = [(home / "runs" / name / "student.safetensors").read_bytes() for name in "ab"]
    assert students[0] == students[1]
    figures = run(kdtrain, "eval", "b", "--quiet", "--out", "figures.json")
    assert figures.output == "" and "num_images" in json.loads((home / "figures.json").read_text())


def test_an_error_is_said_on_stderr_also_where_all_else_is_quiet(home: Path) -> None:
    for words in (["--quiet"], ["--json"]):
        done = run(kdtrain, "--loss", "afdc", *words)
        assert done.exit_code == 2 and done.stdout == "" and "afdcd" in done.stderr


def test_what_is_no_number_is_null_in_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has neither NaN nor Infinity: another program's reader would stop there."""
    Terminal().document({"ap": math.nan, "losses": [1.0, -math.inf], "classes": {"a": math.inf}})
    assert json.loads(capsys.readouterr().out) == {"ap": None, "losses": [1.0, None], "classes": {"a": None}}
