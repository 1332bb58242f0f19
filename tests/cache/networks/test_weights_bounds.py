"""Weights files that claim more than they hold, hold themselves, or hold no tensors of numbers: refused in
three parts, in bounded memory and time."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bounded_memory import bounded_memory
from safetensors.torch import save, save_file

from kdcache.cache.errors import BadWeights
from kdcache.cache.networks.files.unwrapping import MAX_WRAPPED
from kdcache.cache.networks.files.weights_file import read_weights

STATE = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}


def itself() -> dict[str, Any]:
    content: dict[str, Any] = {}
    content["state_dict"] = content
    return content


def wrapped(times: int) -> dict[str, Any]:
    content: dict[str, Any] = dict(STATE)
    for _ in range(times):
        content = {"model": content}
    return content


def repacked(path: Path) -> None:
    """The zip that torch wrote, its members packed; its zeros a thousand to one."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1 << 20)}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))


def with_pickle(content: bytes) -> Callable[[Path], None]:
    """A file of torch with another pickle in it."""

    def write(path: Path) -> None:
        buffer = io.BytesIO()
        torch.save(STATE, buffer)
        with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w") as new:
            for member in old.infolist():
                is_it = member.filename.endswith("/data.pkl")
                new.writestr(member.filename, content if is_it else old.read(member))

    return write


def saved(content: object, **ways: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path, **ways)


HASHED = b"\x80\x02}K\x01" + b"2\x86" * 60 + b"K\x02s."  # a key that takes 2^60 steps to hash
GROWN = b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\0\0\0\0\x02\x85R."
CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "itself": (saved(itself()), "no named tensors inside (found dict)"),
    "wrapped too often": (saved(wrapped(MAX_WRAPPED + 1)), "no named tensors inside"),
    "nothing": (saved({}), "no named tensors inside (found nothing)"),
    "a list": (saved([1]), "no named tensors inside (found list)"),
    "a tensor alone": (saved(torch.ones(2)), "no named tensors inside"),
    "numbers": (saved({"a": 1, "b": "text"}), "no named tensors inside (found int, str)"),
    "a shape without numbers": (
        saved({"a": torch.ones(2, device="meta")}),
        "no named tensors inside (found Tensor)",
    ),
    "one number for a terabyte": (
        saved({"a": torch.ones(1).expand(1 << 40)}),
        "no named tensors inside (found Tensor)",
    ),
    "packed members": (repacked, "is packed"),
    "a key of tuples": (with_pickle(HASHED), "deep in each other"),
    "bytes without end": (with_pickle(GROWN), "takes any amount of memory"),
    "a pickle of before": (lambda path: path.write_bytes(HASHED), "deep in each other"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable PyTorch weights file"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.timeout(20)
def test_a_file_of_torch_that_is_no_state_is_refused(tmp_path: Path, case: str) -> None:
    write, said = CASES[case]
    path = tmp_path / "weights.pt"
    write(path)
    with bounded_memory(), pytest.raises(BadWeights) as caught:
        read_weights(path)
    assert said in caught.value.what and caught.value.where == str(path) and caught.value.fix


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("times", [0, 1, MAX_WRAPPED - 1])
def test_honest_files_of_both_kinds_are_read(tmp_path: Path, legacy: bool, times: int) -> None:
    torch.save(wrapped(times), tmp_path / "weights.pt", _use_new_zipfile_serialization=not legacy)
    state = read_weights(tmp_path / "weights.pt").state
    assert all(torch.equal(state[name], tensor) for name, tensor in STATE.items()) and len(state) == 2


def test_tensors_that_share_their_numbers_are_read(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    torch.save({"a": base, "b": base.T, "c": base[:, 0]}, tmp_path / "weights.pt")
    state = read_weights(tmp_path / "weights.pt").state
    assert torch.equal(state["b"], base.T) and torch.equal(state["c"], base[:, 0])


def test_a_header_of_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with path.open("wb") as file:
        file.write((90 << 20).to_bytes(8, "little"))
        file.truncate(100 << 20)
    with bounded_memory(50 << 20), pytest.raises(BadWeights, match="its header has 94371840 bytes"):
        read_weights(path)


def test_a_terabyte_of_holes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(save(STATE))
    os.truncate(path, 1 << 40)
    with pytest.raises(BadWeights, match="the rest are holes"):
        read_weights(path)


@pytest.mark.parametrize(
    "mean", ["[]", "[1, 2]", '"abc"', "{}", "[1, 2, NaN]", "[1, 2, Infinity]", "[1, 2, true]", "[1, 2"]
)
def test_statistics_of_pixels_are_three_numbers(tmp_path: Path, mean: str) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(STATE, path, metadata={"kdcache.mean": mean, "kdcache.std": "[1, 2, 3]"})
    with pytest.raises(BadWeights, match="not a whole safetensors file") as caught:
        read_weights(path)
    assert caught.value.where == str(path)
    save_file(STATE, path, metadata={"kdcache.mean": json.dumps([0.1, 0.2, 1]), "kdcache.std": "[1, 2, 3]"})
    assert read_weights(path).mean == [0.1, 0.2, 1.0]


def test_a_plain_pickle_is_no_weights_file(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(BadWeights):
        read_weights(tmp_path / "weights.pt")
