"""What a command loads before it answers: a typo, an error about what is not there, and a look at a cache
wait for no library that takes seconds. Each answer is that of a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_folder import draw_folder

from kdcache.cli.kdcache import main as kdcache

SUPPORT = Path(__file__).parents[1] / "support"
HEAVY = (
    "torch", "torchvision", "timm", "segmentation_models_pytorch", "torchmetrics", "accelerate", "zarr",
    "nvidia.dali", "webdataset", "numcodecs", "scipy", "pandas", "matplotlib",
)  # fmt: skip
ASK = """
import json, sys
from kdcache.cli.{command} import main
status = 0
try:
    main(prog_name="{command}") if "{command}" == "kdcache" else main()
except SystemExit as end:
    status = end.code
sys.stderr.flush()
print("\\nLOADED " + json.dumps([status, [name for name in {heavy} if name in sys.modules]]))
"""


def ask(line: str, home: Path, **environment: str) -> tuple[str, int, list[str]]:
    """What a command line says on both streams, its exit status, and the heavy modules that it loaded."""
    command, *words = line.split()
    own = {"PYTHONPATH": os.pathsep.join([*sys.path, str(SUPPORT)]), "KDCACHE_HOME": str(home)}
    own["XDG_CACHE_HOME"] = str(home / "own")
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(command=command, heavy=HEAVY), *words],
        cwd=home,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*sys.path, str(SUPPORT)]),
            "KDCACHE_HOME": str(home),
            "XDG_CACHE_HOME": str(home / "own"),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said, _, loaded = done.stdout.partition("\nLOADED ")
    status, modules = json.loads(loaded)
    return said + done.stderr, status, modules


WRONG = [
    ("kdtrain --loss afdc", "did you mean 'afdcd'?"),
    ("kdtrain --loss cwd(tua=3)", "did you mean 'tau'?"),
    ("kdtrain --loss kd --student r81", "did you mean 'r18'?"),
    ("kdtrain --data camvd:DIR", "did you mean 'camvid'?"),
    ("kdtrain --data camvid:DIR", "the folder does not exist"),
    ("kdtrain --data camvid:DIR --online --teacher tv:deeplabv3_resnet11", "tv:deeplabv3_resnet101"),
    ("kdtrain --recipe afdcdd", "did you mean 'afdcd'?"),
    ("kdtrain --lr-schedule polly", "poly"),
    ("kdtrain --loss kd", "there is no cache yet"),
    ("kdtrain --run r1 --resume", "no run 'r1'"),
    ("kdtrain --config none.toml", "there is no such file"),
    ("kdtrain eval r1", "no run 'r1'"),
    ("kdtrain chain r18 r81 --data camvid:DIR", "did you mean 'r18'?"),
    ("kdtrain chain r18 r34 --data camvid:DIR --loss kdd", "did you mean 'kd'?"),
    ("kdtrain methods kdd", "did you mean 'kd'?"),
    ("kdcache build --for kdd", "did you mean 'kd'?"),
    ("kdcache build --teacher r51 --data camvid:DIR", "did you mean 'r50'?"),
    ("kdcache build --teacher r50 --data camvd:DIR", "did you mean 'camvid'?"),
    ("kdcache show nope", "there is no cache 'nope'"),
    ("kdcache verify nope", "there is no cache 'nope'"),
    ("kdcache peek key --cache nope", "there is no cache 'nope'"),
    ("kdcache taps --teacher r51", "did you mean 'r50'?"),
]


@pytest.mark.parametrize(("line", "answer"), WRONG, ids=[line for line, _ in WRONG])
def test_what_cannot_work_is_said_before_anything_heavy_is_loaded(
    line: str, answer: str, tmp_path: Path
) -> None:
    said, status, loaded = ask(line, tmp_path)
    assert answer in " ".join(said.split()) and status == 2
    assert loaded == []


@pytest.mark.parametrize(
    "line", ["kdtrain --help", "kdcache --help", "kdtrain eval --help", "kdcache build -h"]
)
def test_help_loads_nothing_heavy(line: str, tmp_path: Path) -> None:
    said, status, loaded = ask(line, tmp_path)
    assert "Usage" in said and not status
    assert loaded == []


def built(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_folder(home / "data", count=2)
    monkeypatch.setenv("KDCACHE_HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "own"))
    monkeypatch.chdir(home)
    made = CliRunner().invoke(
        kdcache, "build --teacher tiny_teacher:make --data folder:data --crop 24,32 --device cpu".split()
    )
    assert made.exit_code == 0, made.output


def test_a_look_at_a_cache_loads_nothing_heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(tmp_path, monkeypatch)
    said, _, loaded = ask("kdcache show", tmp_path)
    assert "losses it can serve: none, kd" in said and loaded == []
    for line in ("kdcache ls", "kdtrain ls", "kdcache show --keys", "kdcache show --json"):
        said, status, loaded = ask(line, tmp_path)
        assert said and not status and loaded == [], line
    said, status, loaded = ask("kdcache verify", tmp_path)
    assert "0 damaged" in said and not status
    assert loaded == ["zarr", "numcodecs"], "they say how an array is described, and nothing else says it"


def test_what_was_remembered_of_a_cache_is_only_a_shortcut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone, damaged, or in a place that nobody may write: the same answer, with torch."""
    built(tmp_path, monkeypatch)
    whole, _, _ = ask("kdcache show", tmp_path)
    (kept,) = (tmp_path / "own" / "kdcache" / "served").iterdir()
    remembered = kept.read_bytes()
    kept.write_bytes(remembered.replace(b'"kd"', b'"dk"'))
    said, _, loaded = ask("kdcache show", tmp_path)
    assert said == whole and loaded == ["torch"]
    assert kept.read_bytes() == remembered, "it is put right"
    (tmp_path / "file").touch()
    said, _, loaded = ask("kdcache show", tmp_path, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert said == whole and loaded == ["torch"]


def test_a_cache_that_grew_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(tmp_path, monkeypatch)
    assert "stage4" in ask("kdcache show", tmp_path)[0]
    grown = CliRunner().invoke(kdcache, "build --tap stage1 --device cpu --trust tiny_teacher".split())
    assert grown.exit_code == 0, grown.output
    names = {path.name for path in (tmp_path / "own" / "kdcache" / "served").iterdir()}
    assert len(names) == 2, "one for each generation"


@pytest.mark.parametrize(
    ("command", "words", "answer"),
    [("kdtrain", "kdtrain --stu", "plain,--student"), ("kdtrain", "kdtrain ev", "plain,eval"),
     ("kdcache", "kdcache bu", "plain,build"), ("kdcache", "kdcache build --forma", "plain,--format"),
     ("kdtrain", "kdtrain rm r18", "plain,r18-kd"), ("kdtrain", "kdtrain report --sweep a", "plain,abl"),
     ("kdtrain", "kdtrain --loss afd", "plain,afdcd"), ("kdcache", "kdcache show c", "plain,camvid-r50")],
)  # fmt: skip
def test_the_shell_completes_what_was_begun_without_anything_heavy(
    command: str, words: str, answer: str, tmp_path: Path
) -> None:
    for file in ("runs/r18-kd/config.toml", "sweeps/abl/cells.json", "caches/camvid-r50/manifest.json"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    said, _, loaded = ask(
        command,
        tmp_path,
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split()) - 1),
        **{f"_{command.upper()}_COMPLETE": "bash_complete"},
    )
    assert said.splitlines() == [answer]
    assert loaded == []


def test_the_script_that_a_shell_reads_names_the_command(tmp_path: Path) -> None:
    said, _, _ = ask("kdtrain", tmp_path, _KDTRAIN_COMPLETE="bash_source")
    assert "complete -o nosort -F _kdtrain_completion kdtrain" in said


def test_the_list_of_heavy_modules_would_notice_one(tmp_path: Path) -> None:
    assert ask("kdtrain methods kd", tmp_path)[2] == ["torch"]


def test_a_student_of_no_library_trains_without_timm_and_torchvision() -> None:
    code = (
        "import sys\n"
        "import kdcache.trainer.run, kdcache.trainer.together.group\n"
        "from kdcache.cache.networks.build import build_network\n"
        "build_network('resnet8', task='classification', num_classes=10, role='student')\n"
        "print(*({'timm', 'torchvision', 'segmentation_models_pytorch'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr[-1000:]
