"""`ls`, `rm` and `why`: what there is, what is gone, and why two caches are two."""

import json
import multiprocessing
from pathlib import Path

import pytest
from click.testing import CliRunner
from sweep_home import STUDENT, SWEEP, InProcess, typed, typed_kdcache

from kdcache.cache.build.lock import build_lock
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.bench import removal
from kdcache.trainer.folder.run_folder import held

NONE, KD = "abl-tiny_teacher_make-none", "abl-tiny_teacher_make-kd"


def the_cache(home: Path) -> str:
    (name,) = [path.name for path in (home / "caches").iterdir()]
    return name


@pytest.fixture
def swept(home: Path, in_process: InProcess) -> Path:
    assert typed(*SWEEP, "--loss", "kd", "--no-fresh").exit_code == 0
    return home


def test_runs_and_caches_are_listed_with_what_they_are(swept: Path) -> None:
    cache = the_cache(swept)
    rows = {row["run"]: row for row in json.loads(typed("ls", "--json").output)}
    assert set(rows) == {NONE, KD}
    row = rows[KD]
    told = {name: row[name] for name in ("student", "loss", "cache", "seed", "step", "steps", "state")}
    assert told == {
        "student": STUDENT, "loss": "kd", "cache": cache, "seed": 0, "step": 2, "steps": 2,
        "state": "finished",
    }  # fmt: skip
    assert row["metric"] == "miou" and 0 <= row["best"] <= 1
    (listed,) = json.loads(typed_kdcache("ls", "--json").output)
    num_bytes = sum(path.stat().st_size for path in (swept / "caches").rglob("*") if path.is_file())
    assert listed == {
        "cache": cache, "teacher": STUDENT, "data": "data train", "views": ["crops:1 64x96"],
        "taps": ["logits"], "num_bytes": num_bytes, "runs": [KD, NONE], "state": "complete", "problem": "",
    }  # fmt: skip
    shown = typed("ls").output.replace("\n", "").replace(" ", "")
    assert "finished" in shown and f"{100 * row['best']:.2f}%" in shown


def test_what_cannot_be_read_is_a_row_and_no_end_of_the_list(swept: Path) -> None:
    (swept / "runs" / KD / "config.toml").write_text("[options]\nstep = 1\n")
    rows = {row["run"]: row for row in json.loads(typed("ls", "--json").output)}
    assert rows[KD]["state"] == "unreadable" and "step" in rows[KD]["problem"]
    assert rows[NONE]["state"] == "finished"
    manifest = swept / "caches" / the_cache(swept) / "generations" / "00001.json"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    (row,) = json.loads(typed_kdcache("ls", "--json").output)
    assert row["state"] == "unreadable" and row["problem"]


def test_an_empty_home_says_what_would_fill_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    assert "kdtrain trains one" in typed("ls").output
    assert "kdcache build makes one" in typed_kdcache("ls").output


def test_a_cache_is_removed_after_its_readers_are_named_and_yes_is_said(swept: Path) -> None:
    cache = the_cache(swept)
    no = CliRunner().invoke(kdcache, ["rm", cache], input="n\n")
    assert no.exit_code == 1 and "nothing was removed" in no.output
    assert f"read by run {KD}" in no.output and f"read by run {NONE}" in no.output
    nobody = CliRunner().invoke(kdcache, ["rm", cache], input="")
    assert nobody.exit_code == 1 and (swept / "caches" / cache).is_dir()
    yes = CliRunner().invoke(kdcache, ["rm", cache], input="y\n")
    assert yes.exit_code == 0, yes.output
    assert list((swept / "caches").iterdir()) == [], "nothing is left aside"


def test_runs_are_removed_and_what_names_them_is_said(swept: Path) -> None:
    done = CliRunner().invoke(kdtrain, ["rm", KD, "--yes", "--json"])
    assert done.exit_code == 0 and "of sweep abl" in done.stderr
    (row,) = json.loads(done.stdout)
    assert row["name"] == KD and row["num_bytes"] > 0 and row["named_by"] == ["of sweep abl"]
    assert [path.name for path in (swept / "runs").iterdir()] == [NONE]
    gone = typed("rm", KD)
    assert gone.exit_code == 2 and f"no run '{KD}'" in gone.stderr


def test_what_a_process_holds_is_not_removed(swept: Path) -> None:
    cache = swept / "caches" / the_cache(swept)
    with held(swept / "runs" / KD):
        refused = typed("rm", NONE, KD, "--yes")
        assert refused.exit_code == 2 and f"run '{KD}' is trained by a process now" in refused.stderr
        read = typed_kdcache("rm", cache.name, "--yes")
        assert read.exit_code == 2 and f"is read by a run that trains now: {KD}" in read.stderr
    assert (swept / "runs" / NONE).is_dir(), "none of those that were named is removed"
    with build_lock(cache):
        built = typed_kdcache("rm", cache.name, "--yes")
        assert built.exit_code == 2 and "another builder" in built.stderr
    assert cache.is_dir()


def _killed(cache: Path, home: Path) -> None:
    """Removal that a kill ends while files go."""

    def die(folder: object, **_: object) -> None:
        import os

        os._exit(9)

    removal.shutil.rmtree = die  # type: ignore[assignment]
    removal.remove_cache(cache, home)


def test_a_removal_that_is_killed_leaves_no_cache_that_looks_whole(swept: Path) -> None:
    name = the_cache(swept)
    cache = swept / "caches" / name
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(cache, swept))
    process.start()
    process.join(60)
    assert process.exitcode == 9 and not cache.exists()
    assert json.loads(typed_kdcache("ls", "--json").output) == []
    assert "there is no cache" in typed_kdcache("show", name).stderr
    assert typed("rm", NONE, "--yes").exit_code == 0  # another folder's: what is aside there is not touched
    (litter,) = (swept / "caches" / removal.ASIDE).iterdir()
    assert (litter / "manifest.json").is_file()


def build(*words: str) -> None:
    done = typed_kdcache("build", "--teacher", STUDENT, "--views", "crops:1", "--tap", "logits", *words)
    assert done.exit_code == 0, done.output


def test_two_caches_differ_in_the_fields_that_made_them_two(home: Path) -> None:
    first = the_cache(home)
    same = json.loads(typed_kdcache("why", first, first, "--json").output)
    assert same == {"first": first, "second": first, "identity": [], "kept": []}
    spec = next(line for line in (home / "caches" / first / "manifest.json").read_text().splitlines()
                if "data_spec" in line).split('"')[3]  # fmt: skip
    build("--data", spec, "--crop", "32,96", "--augment", "flip")
    (second,) = [p.name for p in (home / "caches").iterdir() if p.name != first]
    plain = json.loads(typed_kdcache("why", first, second, "--json").output)
    assert [(row["field"], row["first"], row["second"]) for row in plain["identity"]] == [
        ("crop", [64, 96], [32, 96]), ("recipe", "scale=0.5x2,flip", "scale=1x1,flip"),
    ]  # fmt: skip
    shown = typed_kdcache("why", first, second).output
    assert "what they are differs in 2 fields" in shown and "[32, 96]" in shown
    grown = typed_kdcache("build", "--cache", second, "--teacher", STUDENT, "--tap", "stage4")
    assert grown.exit_code == 0, grown.output
    kept = json.loads(typed_kdcache("why", second, first, "--json").output)["kept"]
    assert [row["field"] for row in kept] == ["views.0", "taps.stage4"]


def test_a_cache_is_compared_with_what_would_be_built_now(home: Path) -> None:
    cache = the_cache(home)
    before = sorted(path for path in home.rglob("*"))
    assert "a build would use this cache" in typed_kdcache("why", cache).output
    words = ["why", cache, "--teacher", STUDENT, "--crop", "32,96", "--json"]
    plain = json.loads(typed_kdcache(*words).output)
    assert plain["second"] == "what would be built now"
    assert [row["field"] for row in plain["identity"]] == ["crop"]
    assert sorted(path for path in home.rglob("*")) == before, "nothing is built"
    both = typed_kdcache("why", cache, cache, "--crop", "32")
    assert both.exit_code == 2 and "two caches and options of a build" in both.stderr
