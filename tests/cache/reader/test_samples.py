"""A cache's samples: truths by index, out of columns or out of the tar; which live; columns that cannot be
true."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stored_cache import HandWritten, entry, small_manifest, write_cache

from kdcache.cache.errors import BadCache, BadOption, BadSample
from kdcache.cache.reader.samples import StoredSamples
from kdcache.cache.record.generation import BlockEntry
from kdcache.cache.record.manifest import Manifest, TapEntry, read_manifest
from kdcache.cache.record.records import SamplesRecord, read_samples_record, record_bytes, record_name
from kdcache.cache.record.sealed import seal_of
from kdcache.cache.spec import Task
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.sample_tars import SampleEntry, bad_entry, tar_name
from kdcache.cache.tasks.detection import CLASS, encode_objects
from kdcache.cache.tasks.table import CLASSIFICATION, DETECTION, SEGMENTATION, task_of

SIZE = 2  # samples of a block
MOST_CLASS = 7
CLASSES = [f"class {number}" for number in range(MOST_CLASS + 1)]


def claimed_manifest(task: Task) -> Manifest:
    manifest = small_manifest(task, shard_samples=SIZE)
    return replace(manifest, data=manifest.data | {"class_names": CLASSES})


def sample(key: str, task: Task, label: bytes | None) -> SampleEntry:
    truth = task_of(task).truth
    columns = truth.column_values(label, (8, 8))
    if label is None:
        return bad_entry(key, columns=columns)
    return SampleEntry(key, "png", b"\x89PNG image", truth.suffix, label, 8, 8, columns=columns)


def stored(root: Path, task: Task, *labels: bytes | None, claimed: Task | None = None) -> StoredSamples:
    """Samples of two to a block; None is one that cannot be used, which the generation retires."""
    cache = HandWritten(root, claimed_manifest(claimed or task))
    entries = [sample(str(i), task, label) for i, label in enumerate(labels)]
    for first in range(0, len(entries), SIZE):
        cache.add_block(entries[first : first + SIZE])
    cache.settle(retired=[i for i, label in enumerate(labels) if label is None])
    return StoredSamples(root)


def test_classes_are_known_without_a_tar(tmp_path: Path) -> None:
    samples = stored(tmp_path, CLASSIFICATION, b"7", None, b"0")
    for path in tmp_path.glob("samples/*.tar"):
        path.write_bytes(bytes(path.stat().st_size))
    assert samples.column("classes").tolist() == [7, -1, 0, -1]  # the last one is a hole
    assert samples.column("classes").dtype == np.int64
    assert samples.truth(0).tolist() == [7] and samples.truth(2).tolist() == [0]
    with pytest.raises(BadSample, match="sample '1' is marked invalid"):
        samples.truth(1)


def test_a_class_that_the_data_do_not_have_is_refused_where_it_enters(tmp_path: Path) -> None:
    samples = stored(tmp_path / "c", CLASSIFICATION, str(MOST_CLASS + 1).encode(), b"1")
    with pytest.raises(BadCache, match=f"class {MOST_CLASS + 1}, the data have 0..{MOST_CLASS}"):
        samples.column("classes")
    objects = np.array([[1, 1, 5, 5, MOST_CLASS + 1, 0, 16, 0], [1, 1, 5, 5, MOST_CLASS, 0, 16, 1]], float)
    boxes = stored(tmp_path / "d", DETECTION, encode_objects(objects), encode_objects(objects[1:]))
    with pytest.raises(BadCache) as caught:
        boxes.truth(0)
    assert caught.value.what == (
        f"the label of '0' in 'samples/00000.tar' cannot be read: class {MOST_CLASS + 1}, the data have "
        f"0..{MOST_CLASS}"
    )
    assert boxes.truth(1)[0, CLASS] == MOST_CLASS


def test_the_class_of_a_retired_sample_is_no_longer_told(tmp_path: Path) -> None:
    cache = HandWritten(tmp_path, claimed_manifest(CLASSIFICATION))
    for keys in (("0", "1"), ("2",)):
        cache.add_block([sample(key, CLASSIFICATION, b"5") for key in keys])
    cache.add_lost()
    cache.settle(retired=[0])
    samples = StoredSamples(tmp_path)
    assert samples.column("classes").tolist() == [-1, 5, 5, -1, -1, -1]
    assert samples.living.tolist() == [1, 2] and samples.invalid.tolist() == [0, 3, 4, 5]
    assert (samples.num_samples, samples.num_blocks, samples.shard_samples) == (6, 3, SIZE)


def test_an_encoded_map_is_a_view_of_the_tar(tmp_path: Path) -> None:
    samples = stored(tmp_path, SEGMENTATION, b"\x89PNG one", b"\x89PNG two", None)
    assert samples.truth(1).tobytes() == b"\x89PNG two" and samples.truth(1).dtype == np.uint8
    assert np.shares_memory(samples.truth(0), samples.store.open_map(tar_name(0)))
    with pytest.raises(BadSample, match="sample '2' is marked invalid"):
        samples.truth(2)


def test_holes_lost_blocks_and_places_beyond_the_end_have_no_sample(tmp_path: Path) -> None:
    written = write_cache(tmp_path)
    written.add_lost()
    written.settle(retired=[1])
    samples = StoredSamples(tmp_path)
    assert samples.living.tolist() == [0, 2, 3, 4] and samples.num_samples == 9
    for hole, block in ((5, 1), (6, 2), (8, 2)):
        for read in (samples.image, samples.truth, samples.key, samples.size, samples.key_hash):
            with pytest.raises(IndexError, match=f"no sample has index {hole}: block {block} ends before"):
                read(hole)
    with pytest.raises(IndexError, match="sample 9 of 9"):
        samples.key(9)
    assert samples.key(1) == "b"  # a retired one can still be looked at


def test_a_key_leads_to_its_living_row(tmp_path: Path) -> None:
    written = write_cache(tmp_path)
    written.add_block([entry("b"), entry("f")])
    written.settle(retired=[1, 3])
    samples = StoredSamples(tmp_path)
    assert [samples.find(key) for key in "abcef"] == [0, 6, 2, 4, 7]
    with pytest.raises(BadOption, match="no sample has the key 'd'") as caught:
        samples.find("d")  # retired, and nobody else has it
    assert caught.value.where == f"cache {written.manifest.name}"
    with pytest.raises(BadOption) as caught:
        StoredSamples(tmp_path).find("aa")
    assert caught.value.fix == "did you mean 'a'?"


@pytest.mark.parametrize("classes", [[7, 3], [-1, -1]])
def test_classes_of_other_samples_than_the_valid_ones_are_damage(tmp_path: Path, classes: list[int]) -> None:
    cache = HandWritten(tmp_path, small_manifest(CLASSIFICATION, shard_samples=SIZE))
    entries = [sample("0", CLASSIFICATION, b"7"), sample("1", CLASSIFICATION, None)]
    changed = zip(entries, classes, strict=True)
    cache.add_block([one._replace(columns={"classes": number}) for one, number in changed])
    cache.settle()
    with pytest.raises(BadCache, match="cannot be read: a valid sample without a class") as caught:
        StoredSamples(tmp_path).key(0)
    assert caught.value.where.endswith("/samples/00000.safetensors") and "build --repair" in caught.value.fix


@pytest.mark.parametrize(
    ("claimed", "held"), [(SEGMENTATION, CLASSIFICATION), (CLASSIFICATION, SEGMENTATION)]
)
def test_samples_of_another_task_are_refused(tmp_path: Path, claimed: Task, held: Task) -> None:
    samples = stored(tmp_path, held, b"1", claimed=claimed)
    with pytest.raises(BadCache, match=f"samples of block 00000 are not of {claimed}, which the manifest"):
        samples.truth(0)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_block_of_another_number_of_samples_than_the_generation_says_is_refused(
    tmp_path: Path, rows: int
) -> None:
    written = write_cache(tmp_path)
    written.blocks[1] = written.blocks[1]._replace(rows=rows)
    written.settle()
    with pytest.raises(BadCache, match=r"'samples/00001\.safetensors' cannot be read: column 'keys\.ends'"):
        StoredSamples(tmp_path).key(3)


def test_an_index_is_read_without_its_tar_and_a_missing_tar_is_named(tmp_path: Path) -> None:
    write_cache(tmp_path)
    (tmp_path / tar_name(1)).unlink()
    with pytest.raises(BadCache, match=r"'samples/00001\.tar' is missing") as caught:
        StoredSamples(tmp_path).image(3)
    assert "kdcache build --repair" in caught.value.fix


def test_an_object_that_the_record_does_not_name_is_not_read(tmp_path: Path) -> None:
    written = write_cache(tmp_path)
    record, _ = read_samples_record(tmp_path, 1)
    other = [one for one in record.objects if one.name != tar_name(1)]
    content = record_bytes(SamplesRecord(block=1, rows=2, objects=tuple(other)))
    written.store.put(record_name(ShardKey(1)), content)
    written.blocks[1] = BlockEntry(seal_of(content), 2)
    written.settle()
    samples = StoredSamples(tmp_path)
    assert samples.key(3) == "d"
    with pytest.raises(BadCache, match=r"'samples/00001\.tar' is not what a record of samples names"):
        samples.image(3)


def test_a_reader_keeps_its_generation_while_newer_ones_appear_beside_it(tmp_path: Path) -> None:
    written = write_cache(tmp_path)
    first = StoredSamples(tmp_path)
    written.add_block([entry("f")])
    assert written.settle(retired=[0, 4]) == 2
    second = StoredSamples(tmp_path)
    written.add_block([entry("g")])
    written.settle(retired=[0, 1, 2, 4])
    for samples in (first, StoredSamples(tmp_path, generation=1)):  # as a run that is resumed opens it
        assert (samples.generation.number, samples.living.tolist()) == (1, [0, 1, 2, 3, 4])
        assert [samples.key(i) for i in samples.living] == list("abcde")
        with pytest.raises(IndexError, match="sample 6 of 6"):
            samples.key(6)
    assert (second.generation.number, second.living.tolist()) == (2, [1, 2, 3, 6])
    assert StoredSamples(tmp_path).living.tolist() == [3, 6, 9]


def test_a_generation_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_cache(tmp_path)
    with pytest.raises(BadCache, match="generation 7 of the cache is missing") as caught:
        StoredSamples(tmp_path, generation=7)
    assert caught.value.where == str(tmp_path / "generations/00007.json") and "--repair" in caught.value.fix


def test_what_the_manifest_claims_beyond_the_generation_is_no_data(tmp_path: Path) -> None:
    written = write_cache(tmp_path)
    more = TapEntry(name="logits", tap="logits", module="head", stride=4, channels=3, codec="fp16")
    grown = small_manifest(taps=(*written.manifest.taps, more))
    HandWritten(tmp_path, grown)  # as a build writes it before its first shard
    assert read_manifest(tmp_path) == grown and StoredSamples(tmp_path).manifest == written.manifest
