"""What a cache claims: `manifest.json`, read once and replaced whole.

The name `<data>-<teacher>-<8 hex>` is the digest of what cannot change (`identity`): source, split and class
map, teacher architecture and weights, precision, pixel-pipeline and view versions. Samples, views and taps
are entries with digests of their own and may grow without renaming anything. Whether an entry's shards exist
is never said here: that is the records' word (`kdcache.cache.record.records`).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from kdcache.cache.errors import BadCache, Missing, TornManifest, unknown
from kdcache.cache.fingerprint import digest_of
from kdcache.cache.spec import Task, TensorSpec, ceil_div
from kdcache.cache.tasks.table import read_task
from kdcache.cache.views.sets import ViewSet

FORMAT = 1
FILE_NAME = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TapEntry:
    """One target a cache keeps: where it is read in the teacher, how large it is, how it is stored."""

    name: str  # the need's name: 'stage4', or 'stage4.attention' for a reduction
    tap: str
    module: str  # module path inside the teacher
    stride: int  # input pixels per cell; 0 for a pooled vector
    channels: int
    codec: str
    reduction: str = ""  # 'package.module:function', applied to the tap before it is stored

    def spec(self, height: int, width: int) -> TensorSpec:
        """The stored value's shape for an input of height x width pixels."""
        if self.stride == 0:
            return TensorSpec((self.channels,), 0)
        return TensorSpec(
            (ceil_div(height, self.stride), ceil_div(width, self.stride), self.channels), self.stride
        )

    @property
    def digest(self) -> str:
        return digest_of(asdict(self), 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything needed to read a cache, besides which shards exist."""

    name: str
    identity: Mapping[str, Any]
    teacher: str  # folder name of this teacher's targets
    network: Mapping[str, Any]  # NetworkConfig that rebuilds the teacher
    teacher_origin: str  # what '--teacher' said: a run's name or a network's
    teacher_weights: str  # the file, run or tag the weights came from
    data: Mapping[str, Any]  # Source.describe(): name, split, class names
    data_spec: str  # where the source was at build time, 'camvid:DIR'; a hint, not identity
    crop: tuple[int, int]
    output_stride: int
    precision: str
    pipeline: Mapping[str, Any]
    target_format: str
    zstd: bool
    shard_samples: int
    num_samples: int
    views: tuple[ViewSet, ...]
    taps: tuple[TapEntry, ...]
    # pass id -> target names written together
    passes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    classifier: str = ""  # digest of classifier.safetensors, the teacher's last linear layer; '' without one
    format: int = FORMAT

    @property
    def task(self) -> Task:
        """Raises BadOption for one that this kdcache does not know."""
        return read_task(self.data, where=f"manifest of cache {self.name}")

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.data["class_names"])

    @property
    def num_views(self) -> int:
        return max((v.first + v.count for v in self.views), default=0)

    @property
    def num_blocks(self) -> int:
        return ceil_div(self.num_samples, self.shard_samples)

    @property
    def tap_names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.taps)

    def tap(self, name: str) -> TapEntry:
        entry = next((t for t in self.taps if t.name == name), None)
        if entry is None:
            raise unknown("target", name, self.tap_names, where=f"cache {self.name}")
        return entry

    def view_set(self, number: int) -> ViewSet:
        """The set that holds global view number `number`."""
        return next(v for v in self.views if v.first <= number < v.first + v.count)

    def block_rows(self, block: int) -> int:
        """Samples in a block: `shard_samples`, fewer in the last."""
        return min(self.shard_samples, self.num_samples - block * self.shard_samples)

    def grown(self, **changes: Any) -> "Manifest":
        return replace(self, **changes)

    def to_json(self) -> str:
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["views"] = [v.to_dict() for v in self.views]
        plain["taps"] = [asdict(t) for t in self.taps]
        return json.dumps(plain, indent=1, sort_keys=True) + "\n"


def pass_id(names: tuple[str, ...], taps: Mapping[str, TapEntry]) -> str:
    """Eight hex digits for the targets one forward writes together; part of the names of its files."""
    return digest_of([taps[name].digest for name in sorted(names)], 8)


def cache_name(data: str, teacher: str, identity: Mapping[str, Any]) -> str:
    return f"{data}-{teacher}-{digest_of(identity, 8)}"


def read_manifest(root: Path) -> Manifest:
    """Read `root/manifest.json`. Raises Missing when it is not a cache, BadCache when torn or of a newer
    format."""
    path = root / FILE_NAME
    if not path.is_file():
        raise Missing(
            f"'{root}' is not a cache: it has no {FILE_NAME}",
            where=str(path),
            fix="name the folder that 'kdcache build' printed, or build one",
        )
    try:
        plain = json.loads(path.read_text())
        written = int(plain["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise _torn(path, error) from error
    if written > FORMAT:
        raise BadCache(
            f"the cache has format {written}, this kdcache reads up to {FORMAT}",
            where=str(path),
            fix="install a newer kdcache",
        )
    try:
        plain["views"] = tuple(ViewSet.from_dict(v) for v in plain["views"])
        plain["taps"] = tuple(TapEntry(**t) for t in plain["taps"])
        plain["passes"] = {k: tuple(v) for k, v in plain["passes"].items()}
        plain["crop"] = tuple(plain["crop"])
        return Manifest(**plain)
    except (KeyError, TypeError) as error:
        raise _torn(path, error) from error


def _torn(path: Path, error: Exception) -> TornManifest:
    return TornManifest(
        f"{FILE_NAME} cannot be read: {type(error).__name__} {error}",
        where=str(path),
        fix="run 'kdcache build --teacher T --data D' as when the cache was made: shards are kept",
    )
