"""What a cache claims: `manifest.json`, sealed, read once, replaced whole; it only grows.

The name `<label>-<teacher>-<8 hex>` is the digest of what cannot change (`identity`): the label of the data,
split and class map, teacher architecture and weights, precision, versions of pixels and views, crop and
recipe of stored crops. Views, taps and codecs are entries with digests of their own and may grow without
renaming anything. Which entries hold data is a generation's word (`kdcache.cache.record.generation`), which
keeps a copy of the manifest of its time: a claim that no generation holds is a plan, no data.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from kdcache.cache.errors import BadCache, Missing, TornManifest, unknown
from kdcache.cache.files.picture import MAX_PIXELS
from kdcache.cache.files.plain_json import check_depth, parse_json
from kdcache.cache.files.regular import read_regular
from kdcache.cache.fingerprint import digest_of
from kdcache.cache.record.sealed import MAX_BYTES, decode_sealed, sealed
from kdcache.cache.spec import MOST_ROWS, PRECISIONS, Task, TensorSpec, ceil_div
from kdcache.cache.tasks.table import read_task
from kdcache.cache.views.sets import DRAWN, ViewSet
from kdcache.cache.visible import shell_line

FORMAT = 2
FILE_NAME = "manifest.json"
MAX_SIDE = 1 << 16  # pixels of a crop, cells of a map
MAX_SHARD_SAMPLES = 4096
MAX_VIEWS = 1 << 20  # over all sets
MAX_CLASSES = 1 << 16
MAX_NAME_BYTES = 255  # of a file's name on Linux
PIXEL_CODEC = "raw uint8"  # as `codecs.pixels` has it
PIXELS, LABELS = "kept.pixels", "kept.labels"  # what 'build --keep pixels' stores of every view
CHANNELS = {PIXELS: 3, LABELS: 1}
FULL = "fp32"  # the precision that --amp calls 'no'; the others have one name

Side = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE)]
Text = Annotated[str, msgspec.Meta(max_length=4096)]
_NAME = r"\A(?!\.)[^/\x00-\x1f]{1,200}\Z"
Name = Annotated[str, msgspec.Meta(pattern=_NAME)]  # one folder of a path
Hex8 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{8}\Z")]


@dataclass(frozen=True, slots=True, kw_only=True)
class TapEntry:
    """One target a cache keeps: where it is read in the teacher, how large it is, how it is stored."""

    name: Name  # the need's name: 'stage4', or 'stage4.attention' for a reduction
    tap: Text
    module: Text  # module path inside the teacher
    stride: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIDE)]  # input pixels per cell; 0 for a pooled vector
    channels: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
    codec: Text
    reduction: Text = ""  # 'package.module:function', applied to the tap before it is stored

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
    """Everything needed to read a cache, besides which rows live."""

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
    views: tuple[ViewSet, ...]
    taps: tuple[TapEntry, ...]
    # pass id -> target names written together
    passes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    classifier: str = ""  # digest of classifier.safetensors, the teacher's last linear layer; '' without one
    vector_bytes: int = 0  # see `TargetLayout`; 0 in caches of before, whose manifests do not name it
    # What decides the last bits of an answer: rows at a time and memory format; {} of before they were kept.
    forward: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    kept: tuple[TapEntry, ...] = ()  # of the views themselves: pixels and label maps, not of the teacher

    @property
    def batch_size(self) -> int | None:
        """Rows that went through the teacher together; None where nobody kept it."""
        return self.forward.get("batch_size")

    @property
    def memory_format(self) -> str:
        return str(self.forward.get("memory_format", "contiguous"))

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
    def tap_names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.taps)

    @property
    def kept_names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.kept)

    @property
    def stored(self) -> tuple[TapEntry, ...]:
        """All that rows are stored of: what the teacher answered, and what is kept of the views."""
        return self.taps + self.kept

    @property
    def stored_names(self) -> tuple[str, ...]:
        return self.tap_names + self.kept_names

    def tap(self, name: str) -> TapEntry:
        """Of the teacher, or kept of the views."""
        entry = next((t for t in self.stored if t.name == name), None)
        if entry is None:
            raise unknown("target", name, self.tap_names, where=f"cache {self.name}")
        return entry

    def view_set(self, number: int) -> ViewSet:
        """The set that holds global view number `number`."""
        return next(v for v in self.views if v.first <= number < v.first + v.count)

    @property
    def foreign_names(self) -> tuple[str, ...]:
        """Codecs and reductions that are somebody's own code."""
        named = [name for tap in self.taps for name in (tap.codec, tap.reduction)]
        return tuple(name for name in dict.fromkeys(named) if ":" in name)

    def grown(self, **changes: Any) -> "Manifest":
        return replace(self, **changes)


class _Forward(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROWS)]
    memory_format: Annotated[str, msgspec.Meta(pattern=r"\A(contiguous|channels_last|\+)+\Z", max_length=64)]


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A manifest's JSON, with bounds."""

    name: Name
    identity: dict[str, Any]
    teacher: Name
    network: dict[str, Any]
    teacher_origin: Text
    teacher_weights: Text
    data: dict[str, Any]
    data_spec: Text
    crop: tuple[Side, Side]
    output_stride: Annotated[int, msgspec.Meta(ge=0, le=4096)]
    precision: Text
    pipeline: dict[str, Any]
    target_format: Text
    zstd: bool
    shard_samples: Annotated[int, msgspec.Meta(ge=1, le=MAX_SHARD_SAMPLES)]
    views: Annotated[tuple[dict[str, Any], ...], msgspec.Meta(min_length=1, max_length=4096)]
    taps: Annotated[tuple[TapEntry, ...], msgspec.Meta(min_length=1, max_length=4096)]
    passes: dict[Hex8, tuple[Name, ...]]
    classifier: Text
    forward: _Forward | None = None
    format: Annotated[int, msgspec.Meta(ge=FORMAT, le=FORMAT)]
    kept: Annotated[tuple[TapEntry, ...], msgspec.Meta(max_length=len(CHANNELS))] = ()
    vector_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] = 0


class _ViewsBody(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a view set's JSON; which fields there may be is `ViewSet.from_dict`'s word."""

    kind: Text
    first: Annotated[int, msgspec.Meta(ge=0, le=MAX_VIEWS)]
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_VIEWS)]
    crop: tuple[Side, Side] | None = None
    seed: int = 0
    draw_first: Annotated[int, msgspec.Meta(ge=0, le=MAX_VIEWS)] = 0
    min_scale: Annotated[float, msgspec.Meta(gt=0, le=100)] = 1.0
    max_scale: Annotated[float, msgspec.Meta(gt=0, le=100)] = 1.0
    flip: bool = False
    augment: Text = ""


class _DataBody(msgspec.Struct, frozen=True, kw_only=True):
    """What every task has of `Source.describe`."""

    name: Text
    split: Text
    class_names: Annotated[tuple[Text, ...], msgspec.Meta(max_length=MAX_CLASSES)]


def is_name(text: str) -> bool:
    """Whether a cache may be called so: a manifest takes the name, and a file system the folder."""
    return re.match(_NAME, text) is not None and len(os.fsencode(text)) <= MAX_NAME_BYTES


def plain_manifest(manifest: Manifest) -> dict[str, Any]:
    """As JSON has it."""
    plain = {f.name: getattr(manifest, f.name) for f in fields(manifest)}
    if not manifest.vector_bytes:  # a cache of before keeps the bytes that its generations have
        del plain["vector_bytes"]
    if not manifest.forward:  # as before it was kept: digests of such manifests stay
        del plain["forward"]
    if not manifest.kept:  # as before anything could be kept
        del plain["kept"]
    kept = {"kept": [asdict(t) for t in manifest.kept]} if manifest.kept else {}
    return plain | {
        "views": [v.to_dict() for v in manifest.views],
        "taps": [asdict(t) for t in manifest.taps],
        **kept,
    }


def kept_entry(name: str) -> TapEntry:
    """What a manifest says of PIXELS or LABELS."""
    return TapEntry(name=name, tap=name, module="", stride=1, channels=CHANNELS[name], codec=PIXEL_CODEC)


def manifest_from(plain: object) -> Manifest:
    """The manifest of JSON values. Raises ValueError for what is none, BadCache for views of a newer
    kdcache."""
    try:
        body = msgspec.convert(plain, type=_Body, strict=True)
        msgspec.convert(body.data, type=_DataBody, strict=True)
        for views in msgspec.convert(body.views, type=tuple[_ViewsBody, ...], strict=True):
            if views.crop is None and views.kind in DRAWN:
                raise ValueError(f"views of kind '{views.kind}' have no crop")
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    assert isinstance(plain, dict)
    _check_fields((*plain["taps"], *plain.get("kept", ())))
    values = {f.name: getattr(body, f.name) for f in fields(Manifest)}
    values["forward"] = {} if body.forward is None else msgspec.to_builtins(body.forward)
    manifest = Manifest(**values | {"views": tuple(ViewSet.from_dict(v) for v in body.views)})
    _check_entries(manifest)
    return manifest


def _check_fields(taps: Iterable[Mapping[str, Any]]) -> None:
    """Raises ValueError for a field that a target does not have: msgspec passes over those of a dataclass."""
    if strange := {name for tap in taps for name in tap} - {f.name for f in fields(TapEntry)}:
        raise ValueError(f"a target has the unknown field '{min(strange)}'")


def _check_entries(manifest: Manifest) -> None:
    """Raises ValueError where entries do not fit together."""
    first = 0
    _check_crops(manifest)
    for views in manifest.views:
        if views.first != first:
            raise ValueError(f"views begin at {views.first}, not at {first}")
        first += views.count
    if first > MAX_VIEWS:
        raise ValueError(f"{first} views, at most {MAX_VIEWS} can be")
    if manifest.precision not in {*PRECISIONS, FULL} - {"no"}:
        raise ValueError(f"'{manifest.precision}' is no precision that this kdcache knows")
    names = manifest.stored_names
    if any(tap.name not in CHANNELS or tap != kept_entry(tap.name) for tap in manifest.kept):
        raise ValueError("something is kept of the views that is neither their pixels nor their labels")
    if len(set(names)) != len(names):
        raise ValueError("two targets have one name")
    strange = {name for targets in manifest.passes.values() for name in targets} - set(names)
    if strange:
        raise ValueError(f"a pass writes '{min(strange)}', which is no target")


def _check_crops(manifest: Manifest) -> None:
    """Raises ValueError for a crop of more pixels than any image that is decoded."""
    for height, width in (manifest.crop, *(v.crop for v in manifest.views if v.crop is not None)):
        if height * width > MAX_PIXELS:
            raise ValueError(f"a crop of {height}x{width} pixels, at most {MAX_PIXELS} in all can be")


def manifest_bytes(manifest: Manifest) -> bytes:
    """What `manifest.json` holds."""
    return sealed(plain_manifest(manifest), readable=True)


def pass_id(names: tuple[str, ...], taps: Mapping[str, TapEntry]) -> str:
    """Eight hex digits for the targets one forward writes together; part of the names of its files."""
    return digest_of([taps[name].digest for name in sorted(names)], 8)


def cache_name(data: str, teacher: str, identity: Mapping[str, Any]) -> str:
    return f"{data}-{teacher}-{digest_of(identity, 8)}"


def read_manifest(root: Path) -> Manifest:
    """Read `root/manifest.json`. Raises Missing when it is not a cache, BadCache when torn, changed, or of
    another format, Refused where it cannot be reached."""
    path = root / FILE_NAME
    if not path.is_file() and any((root / "generations").glob("*.json")):
        raise TornManifest(f"{FILE_NAME} is lost", where=str(path), fix=_torn_fix(root))
    if not path.is_file():
        raise Missing(
            f"'{root}' is not a cache: it has no {FILE_NAME}",
            where=str(path),
            fix="name the folder that 'kdcache build' printed, or build one",
        )
    try:
        content = read_regular(path, MAX_BYTES, follow=False)
        check_depth(content)
        _check_format(content, path)
        plain, _ = decode_sealed(content, dict)
        return manifest_from(plain)
    except ValueError as error:
        raise TornManifest(
            f"{FILE_NAME} cannot be read: {error}",
            where=str(path),
            fix=_torn_fix(root),
        ) from error


def _torn_fix(root: Path) -> str:
    if any((root / "generations").glob("*.json")):  # they hold a copy
        return "run 'kdcache build --repair': a generation says it again"
    return "run 'kdcache build --teacher T --data D' with the options that the cache was begun with"


def _check_format(content: bytes, path: Path) -> None:
    """Raises BadCache for another format; what has none that can be read is left to the seal."""
    try:
        plain = parse_json(content)
        written = plain["format"]
    except (ValueError, KeyError, TypeError):
        return
    if written == FORMAT or type(written) is not int:
        return
    if written > FORMAT:
        raise BadCache(
            f"the cache has format {written}, this kdcache reads {FORMAT}",
            where=str(path),
            fix="install a newer kdcache",
        )
    words = [
        "kdcache",
        "build",
        "--teacher",
        str(plain.get("teacher_origin")),
        "--data",
        str(plain.get("data_spec")),
    ]
    raise BadCache(
        f"the cache has format {written}, this kdcache reads {FORMAT}",
        where=str(path),
        fix=f"build it again: {shell_line(words)}",
    )
