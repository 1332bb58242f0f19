"""What `kdcache build` was asked to do, as plain values."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from kdcache.cache.errors import BadOption
from kdcache.cache.processes.stop import MOST_TIMEOUT_S, TIMEOUT_S
from kdcache.cache.spec import PRECISIONS, Need, Task, first_levels
from kdcache.cache.stores.table import FORMATS
from kdcache.cache.tasks.table import task_of

if TYPE_CHECKING:  # options are read for help, which should not wait for torch
    from kdcache.cache.networks.network import Network
    from kdcache.cache.record.manifest import Manifest
    from kdcache.cache.sources.contract import Source

GIB = 1 << 30
USUAL_BATCH = 8  # rows of a forward where neither the user nor a trial says more
# 256 MiB: larger files gain nothing in reading and lose more when a build is killed.
MAX_SHARD_BYTES = 256 << 20

KEEP_PIXELS = "pixels"

_TAP = re.compile(r"^(?P<tap>[^=@\s]+)(?:@(?P<module>[^=\s]+))?(?:=(?P<codec>\S+))?$")


class TapRequest(NamedTuple):
    """One `--tap`: 'stage4', 'stage4=int8', 'stage4@backbone.layer4', 'stage4@backbone.layer4=fp16'."""

    tap: str
    module: str | None = None
    codec: str | None = None
    reduction: str = ""

    @property
    def name(self) -> str:
        return Need(tap=self.tap, reduction=self.reduction).name


def parse_tap(text: str) -> TapRequest:
    """One `--tap`. Raises BadOption."""
    match = _TAP.match(text)
    if not match:
        raise BadOption(
            f"'{text}' is not a tap",
            where="--tap",
            fix="write NAME, NAME=CODEC, NAME@MODULE.PATH or NAME@MODULE.PATH=CODEC",
        )
    return TapRequest(match["tap"], match["module"], match["codec"])


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """Options of one build. None means: as the cache already has it, else the default."""

    runs_dir: Path
    caches_dir: Path
    teacher: str | None = None
    data: str | None = None
    cache: Path | None = None  # an existing cache to grow, update or repair
    split: str = "train"
    views: str | None = None
    mirror: bool = False
    crop: tuple[int, int] | None = None  # (height, width) in pixels
    taps: tuple[TapRequest, ...] = ()
    needs_of: Callable[[Task], tuple[Need, ...]] | None = None  # what the losses of --for read
    # Raises BadOption where the cache that is planned does not fit them:
    fits: "Callable[[Manifest, Source, Network], None] | None" = None
    keep: str | None = None  # KEEP_PIXELS: the finished pixels and label maps of every view too
    augment: str | None = None  # recipe text; None: the source's own
    mean: bool = False  # of several teachers: keep the mean of their logits instead of each one's
    target_format: str | None = None  # zarr
    zstd: bool = False
    batch_size: int | None = None  # None: the cache's; of a new one the fastest in a short trial
    amp: str | None = None  # no
    device: str = "cpu"
    shard_rows: int | None = None  # None: the most rows whose largest array shard stays small enough
    memory_bytes: int = 4 * GIB
    threads: int = 1
    rank_timeout: float = TIMEOUT_S  # seconds that a rank may stand still
    seed: int | None = None  # of drawn views; None: as they have it, of the first ones 0
    weights: str | None = None
    output_stride: int | None = None
    skip_bad: bool = False
    keep_empty: bool = False  # samples from which nothing can be learnt; a cache that has them keeps them
    update: bool = False
    repair: bool = False
    check: bool = False  # read every file of the data, also those whose size and time did not change

    def __post_init__(self) -> None:
        if self.amp not in (None, *PRECISIONS):
            raise BadOption(
                f"'{self.amp}' is no precision", where="--amp", fix=f"legal: {', '.join(PRECISIONS)}"
            )
        if self.target_format not in (None, *FORMATS):
            raise BadOption(
                f"'{self.target_format}' is no format", where="--format", fix=f"legal: {', '.join(FORMATS)}"
            )
        for value, flag in (
            (1 if self.batch_size is None else self.batch_size, "--batch-size"),
            (self.threads, "--threads"),
            (self.shard_rows or 1, "--shard-rows"),
        ):
            if value < 1:
                raise BadOption(f"{value} is too small", where=flag, fix="give a whole number of at least 1")
        if not 0 < self.rank_timeout <= MOST_TIMEOUT_S:
            raise BadOption(
                f"{self.rank_timeout:g} seconds is no time to wait",
                where="--rank-timeout",
                fix=f"give a number above 0, at most {MOST_TIMEOUT_S:g}",
            )
        if self.teacher is None and self.cache is None:
            raise BadOption(
                "no teacher was named",
                where="kdcache build",
                fix="give --teacher NAME, or --cache NAME to grow an existing cache",
            )

    def resolved(
        self, task: Task, taps: Sequence[str], groups: Mapping[str, Sequence[str]] = MappingProxyType({})
    ) -> "BuildOptions":
        """The same with `--for` turned into taps of a teacher that has `taps`, in `groups`.

        An explicit tap wins over the group that it is of, wherever it was written, and both over the same
        need of a loss; of one tap the last one written counts. A tap that only the members of an ensemble
        have, 'logits' beside 'a.logits' and 'b.logits', is one tap of each.
        """
        alone = {request.name: request for request in self.taps if request.tap not in groups}
        typed = [one for request in self.taps for one in expanded(request, groups)]
        named = {one.name: alone.get(one.name, one) for one in typed}
        for need in self.needs_of(task) if self.needs_of else ():
            levels = {one: first_levels(group, need.first) for one, group in groups.items()}
            for one in expanded(TapRequest(need.tap, reduction=need.reduction), levels):
                named.setdefault(one.name, one)
        each = (one for request in named.values() for one in _of_members(request, taps))
        return replace(self, taps=tuple(each), needs_of=None)

    def requests(self) -> tuple[TapRequest, ...]:
        """What to keep, after `resolved`."""
        assert self.needs_of is None, "losses become taps once task and teacher are known"
        return self.taps


def default_requests(
    task: Task,
    taps: Sequence[str],
    groups: Mapping[str, Sequence[str]] = MappingProxyType({}),
    *,
    differ: bool = False,
) -> tuple[TapRequest, ...]:
    """The targets that nobody had to name, of a teacher that has `taps`, in `groups`; `differ`: of one that
    tells other classes apart."""
    other = task_of(task).networks.other_classes
    usual = other.teaches if differ and other is not None else task_of(task).default_taps
    named = [one for tap in usual for one in expanded(TapRequest(tap), groups)]
    wanted = [one for request in named for one in _of_members(request, taps)]
    return tuple(request for request in wanted if request.tap in taps)


def expanded(request: TapRequest, groups: Mapping[str, Sequence[str]]) -> list[TapRequest]:
    """One request for each level of a group: 'fpn=int8' is 'p3=int8', 'p4=int8' ...; another tap as it is.

    Raises BadOption for a group with a place, which could only be one level's.
    """
    levels = groups.get(request.tap)
    if levels is None:
        return [request]
    if request.module is not None:
        raise BadOption(
            f"'{request.tap}' stands for {len(levels)} taps, and one place was given for all of them",
            where=f"--tap {request.tap}@{request.module}",
            fix=f"name the tap of one level: --tap {levels[0]}@{request.module}",
        )
    return [request._replace(tap=level) for level in levels]


def _of_members(request: TapRequest, taps: Sequence[str]) -> list[TapRequest]:
    members = [tap for tap in taps if tap.endswith(f".{request.tap}")]
    if request.tap in taps or not members:
        return [request]
    return [request._replace(tap=tap) for tap in members]
