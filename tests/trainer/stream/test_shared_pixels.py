"""One rank of a machine decodes for all of them, and nothing of it is left behind."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from aligned_classes import build_class_cache, draw_classes
from rank_pixels import LAYOUT, STEPS
from rank_steps import on_two_ranks

from kdcache.trainer.stream.arrays import shared
from kdcache.trainer.stream.arrays.shared import Handle, shared_arrays
from kdcache.trainer.stream.stored import StoredStream


@pytest.mark.slow  # two ranks begin: 20 s
def test_two_ranks_decode_once_and_read_what_the_pipeline_makes(tmp_path: Path) -> None:
    cache = build_class_cache(draw_classes(tmp_path / "data"), "zarr", "pad=4,flip")
    left = on_two_ranks("rank_pixels", tmp_path, str(cache.root), str(tmp_path))
    assert [one["decodes"] for one in left] == [1, 0]
    for rank, one in enumerate(left):
        stream = StoredStream(cache, needs=(), layout=replace(LAYOUT, rank=rank))
        wanted = torch.stack([batch.images_BHWC for batch in islice(stream.run(), STEPS)])
        stream.close()
        assert torch.equal(one["images"], wanted)


def test_alone_a_process_fills_memory_of_its_own() -> None:
    with shared_arrays([3, 5], world=1) as (arrays, mine):
        assert mine and [array.nbytes for array in arrays] == [3, 5]
    with shared_arrays([3], world=2) as (arrays, mine):  # a layout of two ranks, and nobody to speak to
        assert mine and arrays[0].flags.writeable


def test_what_one_maps_another_reads_and_a_process_that_is_gone_is_none(tmp_path: Path) -> None:
    import os

    descriptor = os.memfd_create("test")
    os.ftruncate(descriptor, 8)
    written = shared._mapped(descriptor, [3, 5])
    written[1][:] = 7
    read = shared._opened(Handle(os.getpid(), descriptor), [3, 5])
    assert read is not None and [one.tolist() for one in read] == [[0] * 3, [7] * 5]
    os.close(descriptor)
    written[0][:] = np.arange(3)  # what is mapped stays after the file is closed
    assert read[0].tolist() == [0, 1, 2]
    assert shared._opened(Handle(2**22 + 1, 3), [3, 5]) is None
