"""Caches that a stranger made to hurt: read in bounded memory and time, refused in three parts.

Each case harms a small cache of either format whose seals and digests fit, as whoever can write a file can
write its digest. Reading it takes no memory by what a file merely claims.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bounded_memory import bounded_memory
from click.testing import CliRunner
from resealed import reseal
from stored_cache import KEYS, HandWritten, entry, small_manifest, write_cache

from kdcache.cache.errors import BadCache, KdError
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.generation import FREE_PLACES, generation_name
from kdcache.cache.record.manifest import FILE_NAME, MAX_SHARD_SAMPLES
from kdcache.cache.record.records import record_name
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.sample_tars import index_name
from kdcache.cache.views.view import View
from kdcache.cli.caches.look import show

FORMATS = ("zarr", "webdataset")
GENERATION = generation_name(1)
TERABYTE = 1 << 40
Harm = Callable[[Path], object]


def read_all(root: Path) -> None:
    """Everything that training asks of a cache, digests aside: those fit."""
    cache = open_cache(root, check_digests=False)
    for index in cache.living.tolist():
        cache.key(index), cache.size(index), cache.image(index), cache.truth(index)
        for view in cache.view_numbers():
            cache.row(index, view)
            for part in cache.parts("stage4", index, view).values():
                part.sum()


def sparse(name: str) -> Harm:
    def harm(root: Path) -> None:
        with (root / name).open("ab") as file:
            file.truncate(TERABYTE)

    return harm


def instead(name: str, make: Callable[[Path], object]) -> Harm:
    def harm(root: Path) -> None:
        (root / name).unlink()
        make(root / name)

    return harm


def claims(name: str, change: Callable[[dict[str, Any]], object]) -> Harm:
    return lambda root: reseal(root / name, change)


def in_manifest(change: Callable[[dict[str, Any]], object]) -> Harm:
    return claims(GENERATION, lambda plain: change(plain["manifest"]))


def nested(depth: int) -> object:
    plain: object = 0
    for _ in range(depth):
        plain = [plain]
    return plain


def lost_blocks(plain: dict[str, Any]) -> None:
    plain["manifest"]["shard_samples"] = MAX_SHARD_SAMPLES
    plain["blocks"] += [["", 0]] * (FREE_PLACES // MAX_SHARD_SAMPLES + 100)


def long_header(root: Path) -> None:
    """An index of 100 MB whose header is said to be nearly all of it."""
    with (root / index_name(0)).open("wb") as file:
        file.write((90 << 20).to_bytes(8, "little"))
        file.truncate(100 << 20)


RECORD = record_name(ShardKey(0))
CASES: dict[str, tuple[Harm, str]] = {
    "a manifest that is a pipe": (instead(FILE_NAME, os.mkfifo), "manifest.json is lost"),
    "a manifest that is a device": (
        instead(FILE_NAME, lambda path: path.symlink_to("/dev/zero")),
        "manifest.json is lost",
    ),
    "a manifest of a terabyte": (sparse(FILE_NAME), "at most 8388608 are read"),
    "a manifest of deep values": (
        claims(FILE_NAME, lambda p: p.update(identity={"a": nested(300)})),
        "deep in each other",
    ),
    "a generation that is a pipe": (instead(GENERATION, os.mkfifo), "no regular file"),
    "a generation of a terabyte": (sparse(GENERATION), "at most 16973824 are read"),
    "a generation of deep values": (
        in_manifest(lambda m: m.update(identity={"a": nested(300)})),
        "deep in each other",
    ),
    "more samples than there are bytes": (
        claims(GENERATION, lost_blocks),
        "samples cannot be: 6 records are there",
    ),
    "blocks of a million rows": (
        in_manifest(lambda m: m.update(shard_samples=1 << 20)),
        "Expected `int` <= 4096",
    ),
    "a crop of gigabytes": (
        in_manifest(lambda m: m["views"][0].update(crop=[30000, 30000])),
        "a crop of 30000x30000",
    ),
    "an input of gigabytes": (in_manifest(lambda m: m.update(crop=[60000, 60000])), "a crop of 60000x60000"),
    "a crop of nothing": (in_manifest(lambda m: m.update(crop=[0, 8])), "Expected `int` >= 1"),
    "a crop without end": (in_manifest(lambda m: m.update(crop=[1e999, 8])), "Expected `int`, got `null`"),
    "more views than can be": (
        in_manifest(
            lambda m: m.update(views=[m["views"][0] | {"first": i << 20, "count": 1 << 20} for i in range(2)])
        ),
        "2097152 views, at most 1048576 can be",
    ),
    "a record that is a pipe": (instead(RECORD, os.mkfifo), "no regular file"),
    "a record of a terabyte": (sparse(RECORD), "at most 33554432 are read"),
    "an index of a terabyte": (sparse(index_name(0)), "the rest are holes"),
    "an index with a header of gigabytes": (long_header, "read for 3 rows"),
    "an index that is a pipe": (instead(index_name(0), os.mkfifo), "no regular file"),
}


@pytest.mark.parametrize("target_format", FORMATS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.timeout(20)
def test_what_a_cache_merely_claims_takes_no_memory(tmp_path: Path, target_format: str, case: str) -> None:
    write_cache(tmp_path, manifest=small_manifest(target_format=target_format))
    read_all(tmp_path)
    harm, said = CASES[case]
    harm(tmp_path)
    with bounded_memory(), pytest.raises(KdError) as caught:
        read_all(tmp_path)
    assert said in caught.value.what and caught.value.where and caught.value.fix


@pytest.mark.parametrize("target_format", FORMATS)
@pytest.mark.parametrize(("part", "read"), [("image", "image"), ("label", "truth")])
@pytest.mark.timeout(20)
def test_a_picture_of_another_size_than_its_index_says_is_never_decoded(
    tmp_path: Path, target_format: str, part: str, read: str
) -> None:
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (16000).to_bytes(4) * 2 + b"\x08\0\0\0\0"
    cache = HandWritten(tmp_path, small_manifest(target_format=target_format))
    cache.add_block([entry("a")._replace(**{part: head})])
    cache.settle()
    with bounded_memory(), pytest.raises(BadCache) as caught:
        getattr(open_cache(tmp_path), read)(0)
    assert caught.value.what == f"the {part} of 'a' has 16000x16000 pixels, its index says 8x8"
    assert caught.value.where.endswith("samples/00000.tar") and "--repair" in caught.value.fix


@pytest.mark.parametrize("target_format", FORMATS)
@pytest.mark.timeout(20)
def test_an_object_of_holes_is_not_read_to_its_end(tmp_path: Path, target_format: str) -> None:
    write_cache(tmp_path, manifest=small_manifest(target_format=target_format))
    sparse("samples/00000.tar")(tmp_path)
    with bounded_memory(), pytest.raises(BadCache) as caught:
        open_cache(tmp_path).image(0)
    assert "of its 1099511627776 bytes only" in caught.value.what and "are holes" in caught.value.what
    assert caught.value.where.endswith("samples/00000.tar") and "--repair" in caught.value.fix


STRANGE = {
    "bmp": b"BM" + bytes(16) + (60000).to_bytes(4, "little") * 2,
    "tiff": b"II*\0" + bytes(16),
    "webp": b"RIFF\0\0\0\0WEBPVP8 ",
    "gif": b"GIF89a\xff\xff\xff\xff",
    "a jpeg with bytes between its segments": b"\xff\xd8\xff\xe0\0\x02junk\xff\xc0\0\x11\x08\xff\xff\xff\xff",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", STRANGE)
def test_an_image_whose_size_nobody_compares_is_never_decoded(tmp_path: Path, kind: str) -> None:
    cache = HandWritten(tmp_path)
    cache.add_block([entry("a")._replace(image=STRANGE[kind])])
    cache.settle()
    with pytest.raises(BadCache) as caught:
        open_cache(tmp_path).image(0)
    head = STRANGE[kind][:8].hex(" ") or "nothing"
    assert caught.value.what == (
        f"the image of 'a' is neither JPEG nor PNG, or cut short: it starts with {head}"
    )
    assert caught.value.where.endswith("samples/00000.tar") and "--repair" in caught.value.fix


@pytest.mark.parametrize("kind", STRANGE)
def test_a_label_map_that_is_no_png_is_never_decoded(tmp_path: Path, kind: str) -> None:
    cache = HandWritten(tmp_path)
    cache.add_block([entry("a")._replace(label=STRANGE[kind])])
    cache.settle()
    with pytest.raises(BadCache) as caught:
        open_cache(tmp_path).truth(0)
    assert caught.value.what == "the label of 'a' in 'samples/00000.tar' cannot be read: it is no PNG"


@pytest.mark.parametrize("size", [(0, 8), (30000, 30000)])
def test_an_index_of_images_that_nobody_could_decode_is_refused(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    cache = HandWritten(tmp_path)
    cache.add_block([entry("a")._replace(height=size[0], width=size[1])])
    cache.settle()
    with pytest.raises(BadCache, match="an image of no pixels, or of more than 178956970"):
        open_cache(tmp_path).key(0)


def index_of(root: Path) -> Path:
    (path,) = root.glob("targets/*/00000-v000-*.idx.json")
    return path


def rewritten(change: Callable[[dict[str, Any]], object]) -> Harm:
    def harm(root: Path) -> None:
        plain = json.loads(index_of(root).read_text())
        change(plain)
        index_of(root).write_text(json.dumps(plain))

    return harm


TAR_CASES: dict[str, tuple[Harm, str]] = {
    "offsets past 2^63": (
        rewritten(lambda p: p["offsets"]["stage4"].update(values=[2**70] * 3)),
        "cannot be read",
    ),
    "offsets near 2^63": (
        rewritten(lambda p: p["offsets"]["stage4"].update(values=[2**63 - 1] * 3)),
        "cannot be read",
    ),
    "offsets beyond the tar": (
        rewritten(lambda p: p["offsets"]["stage4"].update(values=[2**40] * 3)),
        "is truncated",
    ),
    "offsets below nothing": (
        rewritten(lambda p: p["offsets"]["stage4"].update(values=[-5] * 3)),
        "cannot be read",
    ),
    "offsets between numbers": (
        rewritten(lambda p: p["offsets"]["stage4"].update(scale=[513] * 3)),
        "between two numbers",
    ),
    "offsets of text": (
        rewritten(lambda p: p["offsets"]["stage4"].update(values=["a"] * 3)),
        "cannot be read",
    ),
    "fewer offsets than rows": (
        rewritten(lambda p: p["offsets"]["stage4"].update(values=[512])),
        "one offset for each",
    ),
    "fewer rows than samples": (
        rewritten(
            lambda p: (p["sizes"].update(stage4=[]), p["offsets"]["stage4"].update(values=[], scale=[]))
        ),
        "row 0 is not in",
    ),
    "more rows than a shard has": (
        rewritten(
            lambda p: (
                p["sizes"].update(stage4=["2x2"] * 9),
                p["offsets"]["stage4"].update(values=[512] * 9, scale=[512] * 9),
            )
        ),
        "one offset for each",
    ),
    "very many offsets": (
        rewritten(lambda p: p["offsets"]["stage4"].update(values=[0] * 100_000)),
        "at most",
    ),
    "deep values": (rewritten(lambda p: p["sizes"].update(stage4=nested(900))), "cannot be read"),
    "nothing": (lambda root: index_of(root).write_text("{}"), "cannot be read"),
    "a list": (lambda root: index_of(root).write_text("[]"), "cannot be read"),
    "another tap": (rewritten(lambda p: p["offsets"].clear()), "it lacks 'stage4'"),
    "a terabyte": (lambda root: os.truncate(index_of(root), TERABYTE), "the rest are holes"),
    "a gigabyte": (lambda root: os.truncate(index_of(root), 1 << 30), "bytes, at most"),
}


@pytest.mark.parametrize("case", TAR_CASES)
@pytest.mark.timeout(20)
def test_an_index_of_targets_is_typed_and_bounded(tmp_path: Path, case: str) -> None:
    write_cache(tmp_path, manifest=small_manifest(target_format="webdataset"))
    harm, said = TAR_CASES[case]
    harm(tmp_path)
    with bounded_memory(), pytest.raises(BadCache) as caught:
        open_cache(tmp_path, check_digests=False).parts("stage4", 0, 0)
    assert said in caught.value.what and "targets/" in caught.value.where and "--repair" in caught.value.fix


@pytest.mark.parametrize(
    ("effects", "said"),
    [
        ([["turn", 1]] * 65, "a list of 65"),
        ([["brightness", 1 << 40]], "brightness"),
        ([["erase", 0, 0, 1, 1, 10**30, 0, 0]], "erase"),
        ([["brightness", 1.5]], "brightness"),
        ([["brightness", True]], "brightness"),
        (nested(200), "no view operation"),
        ({}, "no view operation"),
    ],
)
def test_effects_are_few_and_of_numbers_that_a_recipe_can_draw(effects: object, said: str) -> None:
    with pytest.raises(BadCache, match="no view operation that this kdcache knows") as caught:
        View.from_json(effects)
    assert said in caught.value.what


def test_an_honest_cache_is_read_as_before(tmp_path: Path) -> None:
    for target_format in FORMATS:
        root = tmp_path / target_format
        write_cache(root, manifest=small_manifest(target_format=target_format))
        cache = open_cache(root)
        assert [cache.key(index) for index in cache.living.tolist()] == [key for keys in KEYS for key in keys]
        assert np.array_equal(cache.parts("stage4", 4, 1)["values"], np.full((2, 2, 3), 41, np.uint8))


def test_damaged_generations_are_listed_once_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each one asked for the newest: of five thousand empty files verify did not end."""
    from kdcache.cache.look import verify
    from kdcache.cache.record import generation

    write_cache(tmp_path)
    for number in range(2, 30):
        (tmp_path / generation_name(number)).touch()
    asked: list[Path] = []
    listed = generation.list_generations

    def counted(root: Path) -> list[int]:
        asked.append(root)
        return listed(root)

    monkeypatch.setattr(generation, "list_generations", counted)
    monkeypatch.setattr(verify, "list_generations", counted)
    named = [problem.where for problem in verify.problems(tmp_path)]
    assert named[:28] == [generation_name(number) for number in range(2, 30)] and len(asked) == 1


@pytest.mark.parametrize("lost", [slice(None), slice(1), slice(-1, None)], ids=["all", "first", "last"])
def test_targets_that_are_called_complete_have_their_records(tmp_path: Path, lost: slice) -> None:
    """Who looks, as `show` does, reads no row."""
    write_cache(tmp_path)
    open_cache(tmp_path).check_complete()

    def harm(plain: dict[str, Any]) -> None:
        del plain["records"][lost]

    reseal(tmp_path / GENERATION, harm)
    with pytest.raises(BadCache, match="is called complete, and of view") as caught:
        open_cache(tmp_path).check_complete()
    assert caught.value.where == str(tmp_path / GENERATION) and "--repair" in caught.value.fix
    shown = CliRunner().invoke(show, [str(tmp_path)])
    assert "is called complete" in str(shown.exception)
