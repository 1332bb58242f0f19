"""What the store tests share: plain webdataset as an outside reader of our tars."""

import gc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webdataset as wds

Samples = list[dict[str, Any]]


@pytest.fixture
def plain_webdataset() -> Callable[..., Samples]:
    """Reads a tar with webdataset alone: all samples, decoded when asked."""

    def read(tar: Path, *decode: str) -> Samples:
        with warnings.catch_warnings():
            # webdataset leaves its tar to the garbage collector, which complains of the open file.
            warnings.simplefilter("ignore", ResourceWarning)
            dataset = wds.WebDataset(str(tar), shardshuffle=False)
            samples = list(dataset.decode(*decode) if decode else dataset)
            del dataset
            gc.collect()
        return samples

    return read
