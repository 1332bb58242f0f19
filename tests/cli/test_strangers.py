"""Caches and runs of strangers: no command runs code that a file names, until the command line names it.

Each hostile file names a module that leaves a mark when it is imported.
"""

import json
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cache_scene import Scene, built_scene, damage, draw_scene, images, remove
from click.testing import CliRunner, Result
from safetensors.torch import save

from kdcache.cache.build.build import build_cache
from kdcache.cache.errors import BadOption
from kdcache.cache.networks.names import parse_name
from kdcache.cache.networks.run_card import CARD, STUDENT, file_digest
from kdcache.cache.record.generation import (
    generation_bytes,
    generation_name,
    newest_generation,
)
from kdcache.cache.record.manifest import FILE_NAME, Manifest, manifest_bytes
from kdcache.cache.trust import consent, is_trusted, names_in, require_trust
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain

EVIL = """
from pathlib import Path
Path(__file__).with_name("marked").write_text("ran")
from kdcache.cache.codecs.raw import Raw
from tiny_teacher import make

class Codec:
    name, raw = "stranger:Codec", Raw("float16")
    parts, encode, decode, bound = raw.parts, raw.encode, raw.decode, raw.bound
"""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the hostile module leaves its mark; the module can be imported."""
    folder = tmp_path / "somewhere"
    folder.mkdir()
    (folder / "stranger.py").write_text(EVIL)
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text(EVIL)
    monkeypatch.syspath_prepend(folder)
    for name in ("stranger", "pack"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder / "marked"


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = built_scene(tmp_path / "scene", "zarr")
    monkeypatch.setenv("KDCACHE_HOME", str(made.root))
    return made


def claim(cache: Path, **changes: object) -> None:
    """Manifest and generation as a stranger would write them: sealed, and lying."""
    generation = newest_generation(cache)
    assert generation is not None
    lying: Manifest = generation.manifest.grown(**changes)
    (cache / FILE_NAME).write_bytes(manifest_bytes(lying))
    content = generation_bytes(
        1,
        lying,
        blocks=generation.blocks,
        retired=(),
        complete=generation.complete,
        records=generation.records,
    )
    (cache / generation_name(1)).write_bytes(content)


def hostile_run(folder: Path, factory: str = "stranger:make") -> Path:
    """A run whose card names a factory, as far as reading it needs."""
    folder.mkdir(parents=True)
    card = {
        "format": 1, "task": "segmentation", "data": "folder:x", "class_names": ["sky", "ground", "thing"],
        "crop": [32, 32], "output_stride": 8, "metrics": {}, "weights_digest": "",
        "network": {"name": factory, "num_classes": 3, "output_stride": 8, "aux": False, "taps": {}},
    }  # fmt: skip
    (folder / STUDENT).write_bytes(save({}))
    card["weights_digest"] = file_digest(folder / STUDENT)
    (folder / CARD).write_text(json.dumps(card))
    return folder


def run(command: object, *words: str) -> Result:
    return CliRunner().invoke(command, list(words))  # type: ignore[arg-type]


BUILDS = (["--repair"], ["--update"], ["--views", "crops:3"], ["--tap", "stage1"], [])


@pytest.mark.parametrize("words", [["verify", "--deep"], *(["build", *more] for more in BUILDS)])
@pytest.mark.parametrize("teacher", ["stranger:make", "{cache}/teacher", "./runs/x", "r50,stranger:make"])
def test_a_cache_that_names_a_strange_teacher_runs_nothing(
    scene: Scene, mark: Path, words: list[str], teacher: str
) -> None:
    hostile_run(scene.cache / "teacher")
    named = teacher.format(cache=scene.cache)
    claim(scene.cache, teacher_origin=named)
    result = run(kdcache, *words)
    assert result.exit_code == 2, result.output
    if "/" in teacher:
        assert "by a path, which is not followed" in result.stderr and f"--teacher {named}" in result.stderr
    else:
        assert "'stranger:make': code of somebody's own" in result.stderr
        assert f"{' '.join(words)} --trust stranger:make" in result.stderr
    assert not mark.exists()


def printed(result: Result) -> list[str]:
    """The words, behind the program's name, of the line that a message says to type."""
    (line,) = re.findall("if you trust it: (.*)", result.output + result.stderr)[:1]
    return shlex.split(line)[1:]


def test_a_teacher_of_ones_own_serves_its_cache_wherever_its_module_is_trusted(
    tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = draw_scene(tmp_path / "own", "zarr")
    monkeypatch.setenv("KDCACHE_HOME", str(scene.root))
    data = ["--data", f"folder:{scene.data}", "--views", "crops:1", "--crop", "32,32", "--device", "cpu"]
    assert run(kdcache, "build", "--teacher", "stranger:make", *data).exit_code == 0
    name = scene.cache.name
    for words in (["verify", "--deep"], ["build", "--cache", name, "--repair"], ["build"]):
        refused = run(kdcache, *words)
        assert refused.exit_code == 2 and printed(refused) == [*words, "--trust", "stranger:make"]
        for line in (printed(refused), [*words, "--trust", "stranger"]):
            trusted = run(kdcache, *line)
            assert trusted.exit_code == 0, trusted.output + trusted.stderr
    assert "nothing to do" in trusted.output and scene.cache.name == name


@pytest.mark.parametrize("words", [["eval", "bad"], ["--loss", "none", "--init", "bad", "--student", "r18"]])
def test_a_strangers_run_runs_nothing_until_it_is_trusted(scene: Scene, mark: Path, words: list[str]) -> None:
    hostile_run(scene.root / "runs" / "bad")
    (scene.root / "runs" / "bad" / "config.toml").write_text("")
    more = ["--data", f"folder:{scene.data}"] if words[0] == "eval" else ["--cache", scene.cache.name]
    assert run(kdtrain, *words, *more).exit_code == 2
    assert not mark.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["build", "--teacher", "bad", "--data", "folder:{data}"],
        ["build", "--teacher", "{runs}/bad", "--data", "folder:{data}"],
        ["build", "--teacher", "bad,r18", "--data", "folder:{data}"],
        ["taps", "--teacher", "bad"],
    ],
)
def test_a_strangers_run_as_teacher_names_the_line_to_type(
    scene: Scene, mark: Path, words: list[str]
) -> None:
    hostile_run(scene.root / "runs" / "bad")
    typed = [word.format(data=scene.data, runs=scene.root / "runs") for word in words]
    refused = run(kdcache, *typed)
    assert refused.exit_code == 2 and "code of somebody's own" in refused.stderr, refused.output
    assert "--trust stranger:make" in refused.stderr and not mark.exists()
    run(kdcache, *typed, "--trust", "stranger:make")
    assert mark.exists(), "the line that the error names is consent"


@pytest.mark.parametrize("words", [["show"], ["verify"], ["peek", "scene00"]])
def test_looking_at_a_cache_of_a_strange_codec_runs_nothing(
    scene: Scene, mark: Path, words: list[str]
) -> None:
    taps = newest_generation(scene.cache).manifest.taps  # type: ignore[union-attr]
    claim(scene.cache, taps=tuple(replace(tap, codec="stranger:Codec") for tap in taps))
    result = run(kdcache, *words)
    assert not mark.exists() and not isinstance(result.exception, ImportError)


def own_codec(scene: Scene) -> None:
    """The cache's last tap is stored by a codec of somebody's own."""
    first, second = newest_generation(scene.cache).manifest.taps  # type: ignore[union-attr]
    claim(scene.cache, taps=(first, replace(second, codec="stranger:Codec")))


def test_digests_of_a_strange_codecs_cache_are_checked_without_running_it(scene: Scene, mark: Path) -> None:
    own_codec(scene)
    plain = run(kdcache, "verify")
    assert plain.exit_code == 0 and "0 damaged" in plain.output, plain.output + plain.stderr
    assert "descriptions of the arrays of logits were not compared" in plain.output
    assert printed(plain) == ["verify", "--trust", "stranger:Codec"] and not mark.exists()
    whole = run(kdcache, *printed(plain))
    assert whole.exit_code == 0 and "0 damaged" in whole.output and "not compared" not in whole.output
    for meta in (scene.cache / "targets.zarr").rglob("logits/*/*/zarr.json"):
        meta.unlink()
    assert run(kdcache, *printed(plain)).exit_code == 1, "what is trusted is compared too"
    damage(next(p for p in (scene.cache / "targets.zarr").rglob("logits/*/*/c/**/*") if p.is_file()))
    hurt = run(kdcache, "verify")
    assert hurt.exit_code == 1 and "differs" in hurt.output


def test_a_strange_codecs_cache_is_copied_by_the_line_that_the_refusal_prints(
    scene: Scene, mark: Path
) -> None:
    own_codec(scene)
    refused = run(kdcache, "compact", "--out", "small")
    assert refused.exit_code == 2 and not mark.exists()
    assert list(scene.caches.iterdir()) == [scene.cache], "a refused copy leaves no folder in its own way"
    copied = run(kdcache, *printed(refused))
    assert copied.exit_code == 0, copied.output + copied.stderr
    assert run(kdcache, "verify", "--cache", "small").exit_code == 0


def test_a_cache_of_a_strange_codec_with_retired_rows_is_shown(scene: Scene, mark: Path) -> None:
    remove(images(scene)[2])
    build_cache(scene.options(update=True))
    generation = newest_generation(scene.cache)
    assert generation is not None
    strange = tuple(replace(tap, codec="stranger:Codec") for tap in generation.manifest.taps)
    lying = generation.manifest.grown(taps=strange)
    content = generation_bytes(
        3, lying, blocks=generation.blocks, retired=generation.retired.tolist(),
        complete=generation.complete, records=generation.records,
    )  # fmt: skip
    (scene.cache / generation_name(3)).write_bytes(content)
    shown = run(kdcache, "show")
    assert shown.exit_code == 0 and "--out NAME' frees their room" in shown.output, shown.stderr
    assert not mark.exists()


def test_one_error_lists_all_strangers_and_one_line_trusts_them(scene: Scene, mark: Path) -> None:
    first, second = newest_generation(scene.cache).manifest.taps  # type: ignore[union-attr]
    lying = replace(first, codec="stranger:Codec"), replace(second, reduction="pack.inner:pooled")
    claim(scene.cache, taps=lying)
    result = run(kdcache, "build", "--cache", scene.cache.name, "--teacher", "tiny_teacher:make", "--repair")
    assert result.exit_code == 2 and "'pack.inner:pooled', 'stranger:Codec'" in result.stderr
    assert "--repair --trust pack.inner:pooled --trust stranger:Codec" in result.stderr
    assert not mark.exists()


def test_a_resumed_run_runs_no_code_of_its_configuration(scene: Scene, mark: Path) -> None:
    words = [
        "--loss",
        "none",
        "--student",
        "tiny_teacher:make",
        "--steps",
        "1",
        "--device",
        "cpu",
        "--log",
        "none",
    ]
    assert run(kdtrain, *words, "--run", "r", "--batch-size", "2").exit_code == 0
    config = scene.root / "runs" / "r" / "config.toml"
    for name in ("student", "loss"):
        text = re.sub("(?m)^#.*\n", "", config.read_text())  # the seal: a stranger would write his own
        config.write_text(re.sub(f"(?m)^{name} = .*", f'{name} = "stranger:make"', text))
        result = run(kdtrain, "--run", "r", "--resume")
        assert result.exit_code == 2 and "--run r --resume --trust stranger:make" in result.stderr
        assert not mark.exists()


def test_a_name_is_read_without_importing_its_package(mark: Path) -> None:
    assert str(parse_name("pack.inner:make", task="segmentation")) == "pack.inner:make"
    assert not mark.exists()


def test_consent_ends_with_its_command_and_is_for_a_module() -> None:
    with consent(["my.nets:make"]):
        assert is_trusted("my.nets:other") and not is_trusted("my:make") and not is_trusted("my.nets.more:x")
        with consent(["my.nets:make", "more"]):
            assert is_trusted("more:x")
        assert is_trusted("my.nets:make") and not is_trusted("more:x")
    assert not is_trusted("my.nets:make") and is_trusted("kdcache.losses.x:y")
    assert not is_trusted("kdcache.cli.training.chain:main") and not is_trusted("kdcache_losses.x:y")
    with pytest.raises(BadOption) as caught:
        require_trust(["b:f", "a:g", "kdcache.losses.x:y"], where="somewhere")
    assert "'a:g', 'b:f'" in caught.value.what and "--trust a:g --trust b:f" in caught.value.fix


def test_what_was_typed_is_consent_for_what_it_names() -> None:
    typed = [
        "--loss",
        "kd+my.losses:Mine(weight=2)",
        "--tap",
        "stage4=my_codecs:B",
        "--student=nets:make",
        "x:",
    ]
    assert names_in(typed) == ["my.losses:Mine", "my_codecs:B", "nets:make"]


def test_a_cache_that_was_copied_with_its_teacher_is_still_a_strangers(scene: Scene, mark: Path) -> None:
    shutil.copytree(hostile_run(scene.root / "elsewhere" / "bad"), scene.root / "runs" / "bad")
    claim(scene.cache, teacher_origin="bad")  # a plain name of a run that is here: its card needs consent
    result = run(kdcache, "verify", "--deep")
    assert result.exit_code == 2 and "verify --deep --trust stranger:make" in result.stderr
    assert not mark.exists()


@pytest.mark.parametrize("form", [["--data", "stranger:x"], ["--data=stranger:x"]])
def test_data_of_that_name_are_no_consent(scene: Scene, mark: Path, form: list[str]) -> None:
    hostile_run(scene.root / "runs" / "bad")
    result = run(kdtrain, "eval", "bad", *form)
    assert result.exit_code == 2 and not mark.exists()
    with consent(names_in(["x"])):
        assert not is_trusted("stranger:make")
