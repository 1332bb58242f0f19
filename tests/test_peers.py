"""benchmarks/peers.py: what it says of the stores, jobs and kills is what was measured.

Only what needs no foreign package runs here. Times are never asserted.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules of benchmarks/ by name; they import one another as the scripts do."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return SimpleNamespace(load=load)


@pytest.fixture
def table() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    values = rng.integers(1, 255, (150, 3, 4, 5), np.uint8)
    return {"values": values, "scale": rng.standard_normal((150, 2, 5)).astype(np.float32)}


@pytest.mark.parametrize("name", ["memmap", "memmap, row by row", "zarr-python", "one .pt a sample"])
def test_a_store_gives_the_rows_that_were_asked_for_in_their_order(
    name: str, scripts: Any, table: dict[str, np.ndarray], tmp_path: Path
) -> None:
    stores, store = scripts.load("peers_stores"), scripts.load("peers_rows").BY_NAME[name]()
    said: list[int] = []
    store.write(table, tmp_path / "rows", said.append)
    batch = store.open(tmp_path / "rows", stores.like(table))
    indices = np.array([149, 0, 64, 63, 7])
    for part, values in batch(indices).items():
        assert values.dtype == table[part].dtype
        np.testing.assert_array_equal(values, table[part][indices])
    assert said[-1] == 150 and said == sorted(said)
    assert store.claims(tmp_path / "rows", stores.like(table)) == 150


def test_bytes_are_those_of_all_files_over_those_of_the_numbers(
    scripts: Any, table: dict[str, np.ndarray], tmp_path: Path
) -> None:
    stores = scripts.load("peers_stores")
    stores.Memmap().write(table, tmp_path / "deep" / "rows", lambda n: None)
    assert stores.bytes_of(tmp_path)["bytes"] == 150 * (60 + 40) == 150 * stores.like(table).row_bytes
    rows = scripts.load("peers_rows")
    kept = {"bytes": 300, "disk": 4096, "files": 2, "raw": 150}
    told = rows.summary([9.0, 2.0, 4.0], [9.0, 1.0, 1.0], kept)
    assert told["of_raw"] == 2.0
    assert told["speed"] == pytest.approx((0.5 + 0.25) / 2)  # the first round warms up
    assert told["speed_spread"] == (0.25, 0.5)


def test_a_store_that_gives_other_numbers_is_not_measured(
    scripts: Any, table: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, rows = scripts.load("peers_stores"), scripts.load("peers_rows")
    stores.save_table(table, tmp_path / "table")
    right = stores.Memmap.open

    def off_by_one(self: Any, folder: Path, like: Any) -> Any:
        batch = right(self, folder, like)
        return lambda indices: batch((indices + 1) % like.rows)

    monkeypatch.setattr(stores.Memmap, "open", off_by_one)
    with pytest.raises(AssertionError, match="other numbers in"):
        rows.prepare("x", "memmap", str(tmp_path / "table"), str(tmp_path / "rows"))


def test_rows_that_a_killed_write_left_empty_are_counted_as_wrong(
    scripts: Any, table: dict[str, np.ndarray], tmp_path: Path
) -> None:
    stores, kills = scripts.load("peers_stores"), scripts.load("peers_kills")

    class Killed(Exception):
        pass

    def stop(rows: int) -> None:
        raise Killed

    for name, claimed, right in (("memmap", 150, 64), ("zarr-python", 150, 64), ("one .pt a sample", 1, 1)):
        store, folder = scripts.load("peers_rows").BY_NAME[name](), tmp_path / name
        if name == "zarr-python":
            stores.CHUNK_BYTES = 60  # one row a chunk
        with pytest.raises(Killed):
            store.write(table, folder, stop)
        told = kills.read_back(store, table, folder)
        assert (told["claimed"], told["right"], told["error"]) == (claimed, right, "")
        assert told["wrong"] == claimed - right
    torn = tmp_path / "one .pt a sample" / "0000" / "00000000.pt"
    torn.write_bytes(torn.read_bytes()[:100])
    told = kills.read_back(scripts.load("peers_stores").PtFiles(), table, torn.parents[1])
    assert (told["right"], told["wrong"], told["unreadable"]) == (0, 0, 1)
    nothing = kills.read_back(scripts.load("peers_stores").Memmap(), table, tmp_path / "none")
    assert nothing["error"].startswith("FileNotFoundError") and nothing["claimed"] == 0


def test_kills_are_counted_by_what_was_said_to_be_kept(scripts: Any) -> None:
    looks = [
        {"error": "", "wrong": 3, "unreadable": 1, "right": 10, "said": 12},
        {"error": "torn", "wrong": 0, "unreadable": 0, "right": 0, "said": 5},
        {"error": "", "wrong": 0, "unreadable": 0, "right": 9, "said": 4},
    ]
    told = scripts.load("peers_kills").tally(looks)
    assert told["lost_of_said"] == 2 + 5
    assert (told["kills"], told["refused"], told["trials_with_wrong"], told["wrong"]) == (3, 1, 1, 3)
    assert told["kept"] == 19


@pytest.mark.slow
def test_a_killed_writer_is_looked_at_in_another_process(scripts: Any, tmp_path: Path) -> None:
    envs = scripts.load("peers_envs")
    worker = envs.Worker(envs.Env(envs.OWN, Path(sys.executable)), tmp_path / "log.txt")
    try:
        worker.call("peers_kills:drawn_rows", folder=str(tmp_path / "table"), small=True)
        told = worker.call(
            "peers_kills:trials",
            store="memmap",
            table=str(tmp_path / "table"),
            work=str(tmp_path),
            kills=2,
            seed=1,
        )
    finally:
        worker.close()
    assert told["kills"] == 2
    for look in told["trials"]:
        assert look["error"] or look["claimed"] == told["rows"] == look["right"] + look["wrong"]
        assert look["right"] >= look["said"]


def test_stretches_of_a_script_add_up_to_its_wall_time(scripts: Any) -> None:
    lines = [{"label": "teacher", "at_s": 4.0}, {"label": "T=1", "at_s": 10.0, "score": 0.5}]
    parts = scripts.load("peers_jobs").parts_of(lines, 13.0)
    assert [part.seconds for part in parts] == [7.0, 6.0]  # three seconds of imports count to the first
    assert [part.score for part in parts] == [None, 0.5]


def test_a_job_is_compared_with_the_hand_loop_of_the_same_round(scripts: Any) -> None:
    jobs = scripts.load("peers_jobs")
    hand = [[jobs.Part("teacher", 1.0), jobs.Part("T=1", 1.0)], [jobs.Part("T=1", 4.0)]]
    other = [[jobs.Part("build", 2.0), jobs.Part("T=1", 4.0, 0.25)], [jobs.Part("T=1", 4.0, 0.75)]]
    told = jobs.summary(other, hand)
    assert told["seconds"] == [6.0, 4.0]
    assert (told["over_hand"], told["over_hand_spread"]) == (2.0, (1.0, 3.0))
    assert told["score"] == 0.5


def test_every_run_of_a_job_sees_as_many_samples(scripts: Any) -> None:
    jobs = scripts.load("peers_jobs")
    job = jobs.Job(Path("x.npz"), Path("w"), "resnet20a", "resnet8", epochs=8, images=5000)
    assert job.num_train == 4500
    assert job.steps == round(8 * 4500 / 64)


def test_the_chart_pays_for_a_teacher_before_the_first_sample(scripts: Any) -> None:
    page = scripts.load("peers_page")
    built = [
        {"label": "build", "seconds": 5.0},
        {"label": "T=1", "seconds": 2.0},
        {"label": "T=2", "seconds": 3.0},
    ]
    assert page.points(built, 100, 2) == [(0, 0), (0, 5), (100, 7), (200, 10)]
    assert page.points(built[1:], 100, 2) == [(0, 0), (100, 2), (200, 5)]
    sweep = [{"label": "build", "seconds": 5.0}, {"label": "sweep of all", "seconds": 4.0}]
    assert page.points(sweep, 100, 2) == [(0, 0), (0, 5), (200, 9)]
    drawn = page.chart({"ours": page.points(built, 100, 2), "a<b": [(0, 0), (200, 20)]}, "cost")
    assert drawn.startswith("<svg") and "a&lt;b 20.0 s" in drawn and "ours 10.0 s" in drawn


def test_the_hand_loop_cuts_what_slow_loops_cut(scripts: Any) -> None:
    hand = scripts.load("peers_hand")
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    drawn = hand.draw(images, 3)
    samples, views = np.array([4, 0, 2, 2]), np.array([0, 2, 1, 0])
    cut = drawn.cut(samples, views)
    for place, (sample, view) in enumerate(zip(samples, views, strict=True)):
        top, left = drawn.top_NK[sample, view], drawn.left_NK[sample, view]
        crop = np.pad(images[sample], ((4, 4), (4, 4), (0, 0)))[top : top + 32, left : left + 32]
        wanted = crop[:, ::-1] if drawn.flip_NK[sample, view] else crop
        np.testing.assert_array_equal(cut[place], wanted)
    assert drawn.flip_NK.any() and not drawn.flip_NK.all()


def test_the_hand_loop_visits_each_sample_once_an_epoch_under_the_next_view(scripts: Any) -> None:
    hand = scripts.load("peers_hand")
    drawn = hand.draw(np.zeros((10, 32, 32, 3), np.uint8), 4)
    job = {"batch": 4, "steps": 5}
    samples, views = (np.concatenate(each) for each in zip(*hand.batches(job, drawn, 0), strict=True))
    assert sorted(samples[:10]) == sorted(samples[10:]) == list(range(10))
    first, second = (
        dict(zip(samples[:10], views[:10], strict=True)),
        dict(zip(samples[10:], views[10:], strict=True)),
    )
    assert all(second[one] == (first[one] + 1) % 4 for one in range(10))


def test_a_peer_that_cannot_be_installed_is_named_with_the_reason(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    envs, rows = scripts.load("peers_envs"), scripts.load("peers_rows")

    def refuse(name: str, folder: Path) -> None:
        raise envs.NotInstalled("No matching distribution found for lmdb==3.0.0")

    monkeypatch.setattr(envs, "made", refuse)
    asked = rows.Asked(tmp_path, 1, True, 0.0, ("LMDB",))
    result: dict[str, Any] = {"missing": {}, "versions": {}, "how": {}}
    with envs.Workers(tmp_path, tmp_path) as workers:
        assert rows._prepare(asked, workers, "logits", "unused", result) == {}
    assert result["missing"] == {"LMDB": "not installed: No matching distribution found for lmdb==3.0.0"}
    text = scripts.load("peers_page").missing_list({"rows": result})
    assert text == "* rows, LMDB: not installed: No matching distribution found for lmdb==3.0.0"


def test_pip_says_why_a_package_is_not_there(scripts: Any, tmp_path: Path) -> None:
    envs = scripts.load("peers_envs")
    command = [sys.executable, "-c", "import sys; sys.exit('ERROR: no wheel for this Python')"]
    with pytest.raises(envs.NotInstalled, match="^no wheel for this Python$"):
        envs._run(command)


def test_every_store_lives_in_an_environment_with_pinned_packages(scripts: Any) -> None:
    envs, rows = scripts.load("peers_envs"), scripts.load("peers_rows")
    assert {env for env in rows.STORES.values() if env != envs.OWN} == envs.PINS.keys()
    assert all("==" in pin for pins in envs.PINS.values() for pin in pins)


@pytest.mark.slow
def test_a_small_run_writes_tables_of_all_that_needs_nothing_foreign(tmp_path: Path) -> None:
    own = [
        word
        for name in ("memmap", "zarr-python", "one .pt a sample", "kdcache")
        for word in ("--stores", name)
    ]
    options = ["--small", "--rounds", "1", *own, "--contenders", "hand loop", "--contenders", "kdcache"]
    done = subprocess.run(
        [
            *[sys.executable, str(BENCHMARKS / "peers.py"), *options],
            *["--out", str(tmp_path), "--envs", str(tmp_path / "envs")],
        ],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    names = {"memmap", "zarr-python", "one .pt a sample", "kdcache"}
    assert all(one.keys() == names for one in rows["sizes"].values()) and len(rows["sizes"]) == 3
    assert rows["missing"] == {}
    kills = json.loads((tmp_path / "kills.json").read_text())["kills"]["stores"]
    assert kills.keys() == names
    assert kills["kdcache"]["wrong"] == 0
    assert kills["kdcache"]["finished_identical"] == kills["kdcache"]["kills"] == 2
    streams = json.loads((tmp_path / "streams.json").read_text())["streams"]["measured"]
    assert streams.keys() >= {"kdcache", "arrays in memory, vectorised", "DataLoader"}
    jobs = json.loads((tmp_path / "jobs.json").read_text())["jobs"]
    assert jobs["missing"] == {} and jobs["summary"].keys() == {"hand loop", "kdcache"}
    assert "| kdcache |" in (tmp_path / "peers.md").read_text()
    assert "<polyline" in (tmp_path / "cost.svg").read_text()
