"""The teacher's last layer on disk: bytes, digest, and what is said of damage."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from kdcache.cache.errors import BadCache
from kdcache.cache.record.classifier import (
    CLASSIFIER_FILE,
    classifier_digest,
    classifier_problem,
    pack_classifier,
    read_classifier,
)
from kdcache.cache.record.manifest import Manifest

WEIGHT_KD = torch.arange(12, dtype=torch.float64).reshape(4, 3).T  # (3, 4), not contiguous


def claiming(digest: str) -> Manifest:
    return cast(Manifest, SimpleNamespace(classifier=digest, class_names=("a", "b", "c")))


@pytest.fixture
def stored(tmp_path: Path) -> Manifest:
    packed = pack_classifier(WEIGHT_KD)
    (tmp_path / CLASSIFIER_FILE).write_bytes(packed)
    return claiming(classifier_digest(packed))


def test_the_weight_comes_back_as_float32(tmp_path: Path, stored: Manifest) -> None:
    weight_KD = read_classifier(tmp_path, stored)
    assert weight_KD is not None and weight_KD.dtype == torch.float32
    assert torch.equal(weight_KD, WEIGHT_KD.float()) and classifier_problem(tmp_path, stored) is None


def test_a_teacher_without_such_a_layer_stores_and_misses_nothing(tmp_path: Path) -> None:
    assert pack_classifier(None) == b"" and classifier_digest(b"") == ""
    assert (
        classifier_problem(tmp_path, claiming("")) is None and read_classifier(tmp_path, claiming("")) is None
    )


def test_equal_weights_are_equal_bytes() -> None:
    assert pack_classifier(WEIGHT_KD) == pack_classifier(WEIGHT_KD.float().contiguous())


def test_a_flipped_bit_and_a_missing_file_are_named(tmp_path: Path, stored: Manifest) -> None:
    path = tmp_path / CLASSIFIER_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BadCache, match=f"differs .stored {stored.classifier}, found x3:") as caught:
        read_classifier(tmp_path, stored)
    assert caught.value.where == str(path) and "--repair" in caught.value.fix
    path.unlink()
    assert classifier_problem(tmp_path, stored) == f"'{CLASSIFIER_FILE}' is missing"
    with pytest.raises(BadCache, match="is missing"):
        read_classifier(tmp_path, stored)


def test_without_checking_digests_a_torn_file_is_still_named(tmp_path: Path, stored: Manifest) -> None:
    (tmp_path / CLASSIFIER_FILE).write_bytes(b"torn")
    with pytest.raises(BadCache, match="cannot be read"):
        read_classifier(tmp_path, stored, check=False)
