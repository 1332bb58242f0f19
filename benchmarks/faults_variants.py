"""The hostile variants of faults.py by name: what a stranger may put in place of a file of a cache or a run.

FORMS are done to every kind of file; CLAIMS are contents that fit their seals and digests, as whoever can
write a file can write its digest, and that claim what cannot be.
"""

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from resealed import reseal

from kdcache.cache.networks.run_card import file_digest

TERABYTE = 1 << 40
Harm = Callable[[Path], object]
Plain = dict[str, Any]

# ---- forms: any file --------------------------------------------------------------------------------------


def _instead(make: Callable[[Path], object]) -> Harm:
    def harm(path: Path) -> None:
        path.unlink()
        make(path)

    return harm


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "full").touch()


def _elsewhere(path: Path) -> None:
    """The same bytes, beside the home, behind a link."""
    outside = path.parents[len(path.parts) - path.parts.index("case") - 1].with_name("outside")
    shutil.copy2(path, outside)
    path.unlink()
    path.symlink_to(outside)


def _rewritten(content: Callable[[bytes], bytes]) -> Harm:
    return lambda path: path.write_bytes(content(path.read_bytes()))


def _sparse(path: Path) -> None:
    os.truncate(path, TERABYTE)


FORMS: dict[str, Harm] = {
    "is gone": Path.unlink,
    "is a pipe": _instead(os.mkfifo),
    "is an endless device": _instead(lambda path: path.symlink_to("/dev/zero")),
    "is a link to itself": _instead(lambda path: path.symlink_to(path)),
    "is a link to nothing": _instead(lambda path: path.symlink_to(path.with_name("nothing"))),
    "is a link to a secret": _instead(lambda path: path.symlink_to("/etc/passwd")),
    "is a link to the same bytes outside": _elsewhere,
    "is a folder": _instead(_folder),
    "is empty": _rewritten(lambda content: b""),
    "is cut in half": _rewritten(lambda content: content[: len(content) // 2]),
    "is there twice": _rewritten(lambda content: content * 2),
    "has a tail of a terabyte": _sparse,
    "is zeros": _rewritten(lambda content: bytes(len(content))),
    "is not UTF-8": _rewritten(lambda content: b"\xff\xfe\x80" * 40),
    "is 100,000 brackets": _rewritten(lambda content: b"[" * 100_000),
    "is one number of a million digits": _rewritten(lambda content: b"9" * 1_000_000),
    "is a list": _rewritten(lambda content: b"[1, 2, 3]\n"),
    "holds escape sequences": _rewritten(lambda content: b"\x1b]0;x\x07\x1b[2J\r" + content),
}

# Kind of file -> the one that is harmed, as a pattern below the cache or the run.
CACHE_FILES = {
    "manifest": "manifest.json",
    "generation": "generations/00001.json",
    "record of samples": "records/00001-samples.json",
    "record of targets": "records/00001-v000-*.json",
    "tar of samples": "samples/00001.tar",
    "columns of samples": "samples/00001.safetensors",
    "columns of views": "views/00001-v001-*.safetensors",
    "note of times": "stamps/00001.json",
}
FORMAT_FILES = {
    "zarr": {
        "array of zarr": "targets.zarr/*/stage4/*/values/zarr.json",
        "group of zarr": "targets.zarr/zarr.json",
        "shard of zarr": "targets.zarr/*/stage4/*/values/c/0/1/0/0/0",
    },
    "webdataset": {
        "index of targets": "targets/*/00001-v000-*.idx.json",
        "tar of targets": "targets/*/00001-v000-*.tar",
    },
}
RUN_FILES = {
    "configuration": "config.toml",
    "card": "network.json",
    "weights": "student.safetensors",
    "metrics": "metrics.jsonl",
    "environment": "environment.json",
    "state of the distiller": "checkpoints/step-00000002/distiller.pt",
    "state of the optimizer": "checkpoints/step-00000002/optimizer.pt",
    "progress": "checkpoints/step-00000002/progress.json",
    "digests": "checkpoints/step-00000002/digests.json",
}

# ---- claims of a cache: everything that is sealed fits its seal -------------------------------------------


def nested(depth: int) -> object:
    plain: object = 0
    for _ in range(depth):
        plain = [plain]
    return plain


def _manifest(change: Callable[[Plain], object]) -> Harm:
    """In the generation, which holds the manifest that counts."""
    return lambda root: reseal(root / "generations/00001.json", lambda plain: change(plain["manifest"]))


def _generation(change: Callable[[Plain], object]) -> Harm:
    return lambda root: reseal(root / "generations/00001.json", change)


def _sets(**values: object) -> Harm:
    return _manifest(lambda m: m.update(values))


def _view(**values: object) -> Harm:
    return _manifest(lambda m: m["views"][0].update(values))


def _tap(**values: object) -> Harm:
    return _manifest(lambda m: m["taps"][0].update(values))


def _lost_blocks(plain: Plain) -> None:
    plain["manifest"]["shard_samples"] = 4096
    plain["blocks"] += [["", 0]] * 1200


def _index(change: Callable[[Plain], object]) -> Harm:
    def harm(root: Path) -> None:
        for path in root.glob("targets/*/*.idx.json"):
            plain = json.loads(path.read_text())
            change(plain)
            path.write_text(json.dumps(plain))

    return harm


def _array(change: Callable[[Plain], object]) -> Harm:
    def harm(root: Path) -> None:
        for path in root.glob("targets.zarr/*/stage4/*/values/zarr.json"):
            plain = json.loads(path.read_text())
            change(plain)
            path.write_text(json.dumps(plain))

    return harm


def _header(name: str, claimed: int) -> Harm:
    """Columns whose header says that it is so long."""

    def harm(root: Path) -> None:
        for path in root.glob(name):
            path.write_bytes(claimed.to_bytes(8, "little") + path.read_bytes()[8:])

    return harm


CLAIMS: dict[str, Harm] = {
    "a crop of gigabytes": _sets(crop=[60000, 60000]),
    "a crop of nothing": _sets(crop=[0, 8]),
    "a crop below nothing": _sets(crop=[-8, 8]),
    "a crop of three sides": _sets(crop=[32, 32, 32]),
    "a stride of nothing": _sets(output_stride=0),
    "a stride of millions": _sets(output_stride=1 << 40),
    "blocks of a million rows": _sets(shard_samples=1 << 20),
    "blocks of no rows": _sets(shard_samples=0),
    "another format of targets": _sets(target_format="tape"),
    "a format of the future": _sets(format=99),
    "a format of text": _sets(format="2"),
    "no taps": _sets(taps=[]),
    "no views": _sets(views=[]),
    "an unknown field": _sets(surprise=1),
    "a deep identity": _sets(identity={"a": nested(300)}),
    "code for a teacher": _sets(teacher_origin="os:system"),
    "code for a network": _manifest(lambda m: m["network"].update(name="os:system")),
    "a name that leads out": _sets(name="../../outside"),
    "a teacher that leads out": _sets(teacher="../../../outside"),
    "a million classes": _manifest(lambda m: m["data"].update(class_names=[str(n) for n in range(1 << 20)])),
    "a class of a megabyte": _manifest(lambda m: m["data"].update(class_names=["x" * (1 << 20), "y", "z"])),
    "no classes": _manifest(lambda m: m["data"].update(class_names=[])),
    "classes that are numbers": _manifest(lambda m: m["data"].update(class_names=[1, 2, 3])),
    "an unknown task": _manifest(lambda m: m["data"].update(task="divination")),
    "a thousand views": _view(count=1000),
    "more views than can be": _view(count=1 << 21),
    "views below nothing": _view(first=-1),
    "a view that zooms a million times": _view(max_scale=1e6),
    "a view without end": _view(max_scale=float("1e308")),
    "an unknown kind of view": _view(kind="kaleidoscope"),
    "a view's crop of gigabytes": _view(crop=[30000, 30000]),
    "a tap of a billion channels": _tap(channels=1 << 30),
    "a tap of no channels": _tap(channels=0),
    "a tap of stride 1": _tap(stride=1),
    "a tap whose name leads out": _tap(name="../../x"),
    "a codec of strangers": _tap(codec="os:system"),
    "a codec that is another": _tap(codec="fp32"),
    "a reduction of strangers": _tap(reduction="os:system"),
    "places without samples": _generation(_lost_blocks),
    "a block of more rows than it may have": _generation(lambda p: p["blocks"][0].__setitem__(1, 1 << 30)),
    "a block of fewer rows than it has": _generation(lambda p: p["blocks"][0].__setitem__(1, 1)),
    "blocks that are each other's": _generation(lambda p: p["blocks"].reverse()),
    "retired rows that were never there": _generation(lambda p: p.update(retired=[[0, 1 << 40]])),
    "all rows retired": _generation(lambda p: p.update(retired=[[0, 9]])),
    "a record of a block that is not there": _generation(lambda p: p["records"][0].__setitem__(0, 1 << 30)),
    "a record of a view that is not there": _generation(lambda p: p["records"][0].__setitem__(1, 1 << 20)),
    "no records": _generation(lambda p: p.update(records=[])),
    "a pass that leads out": _generation(lambda p: p["records"][0].__setitem__(2, "../../x")),
    "a generation of another number": _generation(lambda p: p.update(number=7)),
    "a generation of the year 9999": lambda root: shutil.copy(
        root / "generations/00001.json", root / "generations/99999999999999999999.json"
    ),
    "five thousand empty generations": lambda root: [
        (root / f"generations/{number:05d}.json").touch() for number in range(2, 5000)
    ],
    "columns of samples with a header of exabytes": _header("samples/*.safetensors", 1 << 62),
    "columns of samples with a header of gigabytes": _header("samples/*.safetensors", 3 << 30),
    "columns of views with a header of gigabytes": _header("views/*.safetensors", 3 << 30),
    "columns of views with a header of nothing": _header("views/*.safetensors", 0),
}
FORMAT_CLAIMS: dict[str, dict[str, Harm]] = {
    "zarr": {
        "an array of exabytes": _array(lambda p: p.update(shape=[2, 1 << 50, 4, 4, 6])),
        "an array of no rows": _array(lambda p: p.update(shape=[0, 0, 4, 4, 6])),
        "an array of another type": _array(lambda p: p.update(data_type="float64")),
        "an array of strange codecs": _array(lambda p: p.update(codecs=[{"name": "os:system"}])),
        "chunks of gigabytes": _array(
            lambda p: p["chunk_grid"]["configuration"].update(chunk_shape=[1, 1 << 30, 4, 4, 6])
        ),
    },
    "webdataset": {
        "offsets past 2^63": _index(lambda p: p["offsets"]["stage4"].update(values=[2**70] * 3)),
        "offsets beyond the tar": _index(lambda p: p["offsets"]["stage4"].update(values=[2**40] * 3)),
        "offsets below nothing": _index(lambda p: p["offsets"]["stage4"].update(values=[-5] * 3)),
        "offsets of text": _index(lambda p: p["offsets"]["stage4"].update(values=["a"] * 3)),
        "offsets of each other": _index(lambda p: p["offsets"]["stage4"]["values"].reverse()),
        "sizes of gigabytes": _index(lambda p: p["sizes"].update(stage4=["30000x30000"] * 3)),
        "parts of gigabytes": _index(
            lambda p: p["parts"]["stage4"]["4x4"]["values"].update(shape=[1 << 20, 1 << 20, 6])
        ),
        "very many offsets": _index(lambda p: p["offsets"]["stage4"].update(values=[0] * 100_000)),
    },
}

# ---- claims of a run --------------------------------------------------------------------------------------


class _Code:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch /tmp/kdcache-faults-was-here",)


def _bomb(path: Path) -> None:
    """Two gigabytes of zeros in two megabytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("archive/data.pkl", "w", force_zip64=True) as member:
            for _ in range(2048):
                member.write(bytes(1 << 20))


def _state(make: Callable[[Path], object], part: str = "distiller.pt") -> Harm:
    """A part of the newest checkpoint, with digests that fit."""

    def harm(run: Path) -> None:
        folder = run / "checkpoints" / "step-00000002"
        make(folder / part)
        digests = json.loads((folder / "digests.json").read_text())
        digests[part] = file_digest(folder / part)
        (folder / "digests.json").write_text(json.dumps(digests))

    return harm


def _saved(value: object) -> Callable[[Path], object]:
    return lambda path: torch.save(value, path)


def _card(change: Callable[[Plain], object]) -> Harm:
    return lambda run: reseal(run / "network.json", change)


def _progress(value: object) -> Harm:
    return _state(lambda path: path.write_text(json.dumps(value)), "progress.json")


def _weights(claimed: int) -> Harm:
    return _header("student.safetensors", claimed)


RUN_CLAIMS: dict[str, Harm] = {
    "a state that runs code": _state(lambda path: path.write_bytes(pickle.dumps(_Code()))),
    "a state in torch's form that runs code": _state(_saved(_Code())),
    "a state that unpacks to gigabytes": _state(_bomb),
    "a state of nothing": _state(_saved({})),
    "a state that is a list": _state(_saved([1, 2])),
    "a state of another network": _state(_saved({"w": torch.ones(3)})),
    "a state of views of gigabytes": _state(_saved({"w": torch.ones(1).expand(1 << 34)})),
    "an optimizer of another run": _state(_saved({"state": {}, "param_groups": []}), "optimizer.pt"),
    "progress that is a list": _progress([]),
    "progress of text": _progress({"best": {"miou": "high"}, "last": {}}),
    "a deep progress": _progress({"best": nested(900), "last": {}}),
    "digests of files outside": lambda run: (run / "checkpoints/step-00000002/digests.json").write_text(
        '{"../../config.toml": "0", "progress.json": "0"}'
    ),
    "no checkpoint at all": lambda run: shutil.rmtree(run / "checkpoints"),
    "a checkpoint of the year 9999": lambda run: (run / "checkpoints/step-99999999999999999999").mkdir(),
    "a card with code": _card(lambda p: p["network"].update(name="os:system")),
    "a card of a million classes": _card(lambda p: p["network"].update(num_classes=1 << 30)),
    "a card of no classes": _card(lambda p: p.update(class_names=[])),
    "a card of an unknown task": _card(lambda p: p.update(task="divination")),
    "a card with a crop of gigabytes": _card(lambda p: p.update(crop=[60000, 60000])),
    "a card with data that are not there": _card(lambda p: p.update(data="folder:/nonexistent")),
    "a card with data of a strange source": _card(lambda p: p.update(data="os:system")),
    "a deep card": _card(lambda p: p.update(metrics=nested(900))),
    "weights with a header of exabytes": _weights(1 << 62),
    "weights with a header of gigabytes": _weights(3 << 30),
    "weights with a header of nothing": _weights(0),
}


def cache_variants(target_format: str) -> Iterator[tuple[str, Harm]]:
    """(name, what is done to the cache's folder)."""
    for kind, pattern in (CACHE_FILES | FORMAT_FILES[target_format]).items():
        for form, harm in FORMS.items():
            yield f"the {kind} {form}", _on(pattern, harm)
    for claim, harm in (CLAIMS | FORMAT_CLAIMS[target_format]).items():
        yield claim, harm


def run_variants() -> Iterator[tuple[str, Harm]]:
    """(name, what is done to the run's folder)."""
    for kind, pattern in RUN_FILES.items():
        for form, harm in FORMS.items():
            yield f"the {kind} {form}", _on(pattern, harm)
    yield from RUN_CLAIMS.items()


def _on(pattern: str, harm: Harm) -> Harm:
    def on_first(root: Path) -> None:
        harm(min(root.glob(pattern)))

    return on_first
