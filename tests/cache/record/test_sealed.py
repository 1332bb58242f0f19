"""Sealed files: every flipped bit is an error, types and bounds hold, and only regular files are read."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest
import xxhash
from manifests import PASS, SEAL, manifest

from kdcache.cache.errors import BadCache
from kdcache.cache.record.generation import BlockEntry, Pair, RecordEntry, generation_bytes, read_generation
from kdcache.cache.record.manifest import manifest_bytes, read_manifest
from kdcache.cache.record.records import (
    SamplesRecord,
    TargetsRecord,
    list_records,
    read_record,
    record_bytes,
    record_name,
)
from kdcache.cache.record.sealed import decode_sealed, read_sealed, seal_of, sealed
from kdcache.cache.stores.contract import ObjectRecord

OBJECT = ObjectRecord("views/00007-v003-0123abcd.safetensors", 12, SEAL)


class Body(msgspec.Struct, forbid_unknown_fields=True):
    rows: int


def files() -> dict[str, bytes]:
    """Every kind of sealed file that a cache holds."""
    targets = TargetsRecord(
        block=7,
        view=3,
        pass_id=PASS,
        targets=("logits",),
        samples=SEAL,
        rows=4,
        views=OBJECT,
        objects=(OBJECT,),
    )
    generation = generation_bytes(
        2, manifest(), blocks=[BlockEntry(SEAL, 3)], retired=[1], complete=[Pair(0, "stage4")],
        records=[RecordEntry(0, 0, PASS, SEAL)],
    )  # fmt: skip
    return {
        "manifest": manifest_bytes(manifest()),
        "generation": generation,
        "samples": record_bytes(SamplesRecord(block=7, rows=4, objects=(OBJECT,))),
        "targets": record_bytes(targets),
    }


@pytest.mark.parametrize("kind", ["manifest", "generation", "samples", "targets"])
def test_no_flipped_bit_of_any_byte_is_taken_for_another_value(kind: str) -> None:
    content = files()[kind]
    decode_sealed(content, dict)
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            with pytest.raises(ValueError):
                decode_sealed(bytes(changed), dict)
                pytest.fail(f"bit {bit} of byte {place} was not noticed")


def test_no_flipped_bit_of_a_file_that_a_build_wrote_is_read(tiny_cache: Path) -> None:
    """One bit of every byte, through the functions that everybody reads these files by."""
    reads: dict[str, Callable[[], object]] = {
        "manifest.json": lambda: read_manifest(tiny_cache),
        "generations/00001.json": lambda: read_generation(tiny_cache, 1),
    }
    for shard in (min(list_records(tiny_cache)), max(list_records(tiny_cache))):
        reads[record_name(shard)] = partial(read_record, tiny_cache, shard)
    assert len(reads) == 4
    for name, read in reads.items():
        whole = (tiny_cache / name).read_bytes()
        read()
        for place in range(len(whole)):
            changed = bytearray(whole)
            changed[place] ^= 1 << place % 8
            (tiny_cache / name).write_bytes(changed)
            with pytest.raises(BadCache) as caught:
                read()
                pytest.fail(f"byte {place} of {name}")
            assert caught.value.where == str(tiny_cache / name) and caught.value.fix
        (tiny_cache / name).write_bytes(whole)


@pytest.mark.parametrize("kind", ["manifest", "generation", "samples", "targets"])
def test_what_is_cut_short_or_goes_on_or_stands_twice_is_refused(kind: str) -> None:
    content = files()[kind]
    others = [content[:length] for length in range(len(content))]
    for other in (*others, content + b"\n", content + b" ", content * 2, content[1:], b"\n" + content):
        with pytest.raises(ValueError):
            decode_sealed(other, dict)


def test_the_seal_of_another_file_is_refused() -> None:
    one, other = sealed({"rows": 3}), sealed({"rows": 4})
    assert len(one) == len(other)
    with pytest.raises(ValueError, match=r"its seal differs \(stored x3:[0-9a-f]{32}, found x3:"):
        decode_sealed(one[:9] + other[9:], dict)


def test_the_seal_is_the_digest_of_every_byte_before_it() -> None:
    """As docs/format.md tells a stranger to check it."""
    for content in files().values():
        before = content[: content.rindex(b",", 0, content.rindex(b'"seal"'))]
        assert seal_of(content) == f"x3:{xxhash.xxh3_128(before).hexdigest()}"


def test_equal_values_have_one_form() -> None:
    assert sealed({"b": 1, "a": 2}) == sealed({"a": 2, "b": 1})


@pytest.mark.parametrize("readable", [False, True])
def test_a_sealed_value_comes_back_and_is_plain_json(readable: bool) -> None:
    content = sealed({"b": [1, {"c": "\u00e9"}], "a": None}, readable=readable)
    plain, seal = decode_sealed(content, dict)
    assert plain == {"a": None, "b": [1, {"c": "\u00e9"}]}
    assert msgspec.json.decode(content) == plain | {"seal": seal} and seal_of(content) == seal
    assert (content.count(b"\n") > 3) == readable


@pytest.mark.parametrize("length", [0, 1, 10, 40])
def test_what_is_cut_short_does_not_end_in_a_seal(length: int) -> None:
    with pytest.raises(ValueError, match="does not end in a seal"):
        seal_of(sealed({"rows": 3})[:length])


@pytest.mark.parametrize("body", [{"rows": "3"}, {"rows": 3, "more": 1}, {}, {"rows": None}])
def test_sealed_values_of_another_type_are_refused(tmp_path: Path, body: dict[str, object]) -> None:
    path = tmp_path / "file"
    path.write_bytes(sealed(body))
    with pytest.raises(BadCache, match="the note cannot be read") as caught:
        read_sealed(path, Body, what="the note", fix="do this")
    assert (caught.value.where, caught.value.fix) == (str(path), "do this")


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    deep = b'{"rows":' + b"[" * 100_000 + b"]" * 100_000
    content = deep + sealed({"rows": 1})[len(b'{"rows":1') :]
    with pytest.raises(ValueError):
        decode_sealed(content, Body)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.write_bytes(sealed({"rows": 3}))
    (tmp_path / "link").symlink_to(whole)
    os.mkfifo(tmp_path / "fifo")
    assert read_sealed(whole, Body, what="it", fix="")[0] == Body(3)
    for name in ("link", "fifo"):
        with pytest.raises(BadCache, match="it is no regular file"):
            read_sealed(tmp_path / name, Body, what="it", fix="")
    with pytest.raises(BadCache, match="it is no regular file"):
        read_sealed(tmp_path, Body, what="it", fix="")
    with pytest.raises(BadCache, match="it is missing"):
        read_sealed(whole / "below", Body, what="it", fix="")
    with pytest.raises(BadCache, match="it is missing"):
        read_sealed(tmp_path / "gone", Body, what="it", fix="")


def test_a_file_beyond_all_bounds_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadCache, match="at most 8388608 are read"):
        read_sealed(tmp_path / "huge", Body, what="it", fix="")
