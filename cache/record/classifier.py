"""The teacher's last linear layer, kept beside its targets: what a loss over class similarity reads.

One object, `classifier.safetensors`, whose digest is in the manifest: it belongs to no shard.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from kdcache.cache.errors import BadCache
from kdcache.cache.files.regular import read_regular
from kdcache.cache.files.system import GONE
from kdcache.cache.files.tensors import COLUMNS_HEADER, check_header
from kdcache.cache.fingerprint import digest_bytes
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.stores.contract import REPAIR
from kdcache.cache.stores.inside import path_inside

if TYPE_CHECKING:
    import torch

CLASSIFIER_FILE = "classifier.safetensors"
_WEIGHT = "weight"
MAX_BYTES, MAX_WIDTH = 256 << 20, 1 << 16  # of the file; of a class


def pack_classifier(weight_KD: "torch.Tensor | None") -> bytes:
    """The object's bytes; b"" for a teacher without such a layer."""
    if weight_KD is None:
        return b""
    import torch  # here and below: a look at a cache reads no weights
    from safetensors.torch import save

    packed: bytes = save({_WEIGHT: weight_KD.detach().to("cpu", torch.float32).clone().contiguous()})
    return packed


def classifier_digest(packed: bytes) -> str:
    return digest_bytes(packed) if packed else ""


def classifier_problem(root: Path, manifest: Manifest) -> str | None:
    """What is wrong with the stored object, or None; nothing is wrong where there is none to be."""
    if not manifest.classifier:
        return None
    try:
        digest = digest_bytes(_content(root, manifest))
    except GONE:
        return f"'{CLASSIFIER_FILE}' is missing"
    except BadCache as error:
        return error.what
    except ValueError as error:
        return f"'{CLASSIFIER_FILE}' cannot be read: {error}"
    same = digest == manifest.classifier
    return None if same else f"'{CLASSIFIER_FILE}' differs (stored {manifest.classifier}, found {digest})"


def _content(root: Path, manifest: Manifest) -> bytes:
    most = COLUMNS_HEADER + 4 * MAX_WIDTH * len(manifest.class_names)
    return read_regular(path_inside(root, CLASSIFIER_FILE), min(MAX_BYTES, most), follow=False)


def read_classifier(root: Path, manifest: Manifest, *, check: bool = True) -> "torch.Tensor | None":
    """(K, D) float32, or None when the teacher has no such layer. Raises BadCache for a damaged object."""
    if not manifest.classifier:
        return None
    import torch
    from safetensors.torch import load

    path = root / CLASSIFIER_FILE
    problem = classifier_problem(root, manifest) if check else None
    if problem:
        raise BadCache(problem, where=str(path), fix=REPAIR)
    try:
        content = _content(root, manifest)
        check_header(content, len(content), COLUMNS_HEADER)
        weight_KD: torch.Tensor = load(content)[_WEIGHT]
        if weight_KD.ndim != 2 or weight_KD.dtype != torch.float32:
            raise ValueError(f"a weight of {weight_KD.dtype} and shape {tuple(weight_KD.shape)}")
    except (*GONE, ValueError, SafetensorError, KeyError) as error:
        raise BadCache(f"'{CLASSIFIER_FILE}' cannot be read: {error}", where=str(path), fix=REPAIR) from error
    return weight_KD
