"""A cache's samples: truths by index, out of columns or out of the tar; columns that cannot be true."""

import json
from pathlib import Path

import numpy as np
import pytest

from kdcache.cache.errors import BadCache, BadSample
from kdcache.cache.reader.samples import StoredSamples
from kdcache.cache.record.manifest import FILE_NAME, Manifest
from kdcache.cache.record.records import record_name
from kdcache.cache.spec import Task
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.sample_tars import SampleEntry, bad_entry, index_name, tar_name, write_samples
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION, task_of, written


def entry(key: str, task: Task, label: bytes) -> SampleEntry:
    truth = task_of(task).truth
    columns = truth.column_values(label)
    return SampleEntry(key, "png", b"\x89PNG image", truth.suffix, label, 8, 8, columns=columns)


def stored(root: Path, task: Task, *labels: bytes | None) -> StoredSamples:
    """Samples of two to a block; None is one that cannot be used."""
    described = {"name": "some", "split": "train", "class_names": ["a", "b"], **written(task)}
    manifest = Manifest(
        name="small", identity={}, teacher="t", network={}, teacher_origin="t", teacher_weights="",
        data=described, data_spec="some:here", crop=(8, 8), output_stride=4, precision="fp32", pipeline={},
        target_format="zarr", zstd=False, shard_samples=2, num_samples=len(labels), views=(), taps=(),
    )  # fmt: skip
    store = LocalStore(root)
    store.put(FILE_NAME, manifest.to_json().encode())
    nothing = task_of(task).truth.column_values(None)
    entries = [
        bad_entry(str(i), columns=nothing) if label is None else entry(str(i), task, label)
        for i, label in enumerate(labels)
    ]
    for block in range(manifest.num_blocks):
        objects = write_samples(store, block, 2 * block, entries[2 * block : 2 * block + 2])
        store.commit(record_name(ShardKey(block)), {"digest": "d", "objects": objects, "stamps": [[]]})
    return StoredSamples(root, check_digests=False)


def test_classes_are_known_without_a_tar(tmp_path: Path) -> None:
    samples = stored(tmp_path, CLASSIFICATION, b"7", None, b"0")
    for path in tmp_path.glob("samples/*.tar"):
        path.write_bytes(bytes(path.stat().st_size))
    assert samples.column("classes").tolist() == [7, -1, 0] and samples.column("classes").dtype == np.int64
    assert samples.truth(0).tolist() == [7] and samples.truth(2).tolist() == [0]
    with pytest.raises(BadSample, match="sample '1' is marked invalid"):
        samples.truth(1)


def test_an_encoded_map_is_a_view_of_the_tar(tmp_path: Path) -> None:
    samples = stored(tmp_path, SEGMENTATION, b"\x89PNG one", b"\x89PNG two", None)
    assert samples.truth(1).tobytes() == b"\x89PNG two" and samples.truth(1).dtype == np.uint8
    assert np.shares_memory(samples.truth(0), samples.store.open_map(tar_name(0)))
    with pytest.raises(BadSample, match="sample '2' is marked invalid"):
        samples.truth(2)


@pytest.mark.parametrize("classes", [[7, 3], [-1, -1]])
def test_classes_of_other_samples_than_the_valid_ones_are_damage(tmp_path: Path, classes: list[int]) -> None:
    samples = stored(tmp_path, CLASSIFICATION, b"7", None)
    path = tmp_path / index_name(0)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"classes": classes}))
    with pytest.raises(BadCache, match="cannot be read: a valid sample without a class") as caught:
        samples.key(0)
    assert caught.value.where == index_name(0) and "kdcache build --repair" in caught.value.fix


@pytest.mark.parametrize(
    ("claimed", "held"), [(SEGMENTATION, CLASSIFICATION), (CLASSIFICATION, SEGMENTATION)]
)
def test_samples_of_another_task_are_refused(tmp_path: Path, claimed: Task, held: Task) -> None:
    stored(tmp_path, held, b"1")
    manifest = (tmp_path / FILE_NAME).read_text()
    stored(tmp_path / "other", claimed, b"1")
    (tmp_path / FILE_NAME).write_text((tmp_path / "other" / FILE_NAME).read_text())
    assert manifest != (tmp_path / FILE_NAME).read_text()
    with pytest.raises(BadCache, match=f"samples of block 00000 are not of {claimed}, which the manifest"):
        StoredSamples(tmp_path, check_digests=False).truth(0)
