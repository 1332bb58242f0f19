"""What rebuilds a network, weights apart: a frozen record that manifests and run folders keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from kdcache.cache.errors import BadOption, unknown
from kdcache.cache.grid import DenseGrid
from kdcache.cache.networks.names import is_library
from kdcache.cache.spec import Task, class_difference
from kdcache.cache.tasks.table import read_task, written

MAX_NUMBER = 1 << 16  # of classes; of pixels per cell
MAX_SHOWN = 400  # of a configuration that is none


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """`taps` holds only the places named by hand. `members` is label -> config of an ensemble's networks."""

    name: str
    num_classes: int  # 0 for a backbone alone
    output_stride: int
    aux: bool = False
    taps: Mapping[str, str] = field(default_factory=dict)
    task: Task
    members: Mapping[str, "NetworkConfig"] = field(default_factory=dict)
    mean: bool = False  # an ensemble answers the members' mean logits too
    grid: DenseGrid | None = None  # of a dense detector: what its maps' cells stand for
    # Of a teacher, where they are known and are not those of the data: what it tells apart, by number.
    class_names: tuple[str, ...] = ()

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Names that stand for several taps, one per level: 'fpn' -> ('p3', ...). Of an ensemble each
        member's, 'label.fpn', and those of all members together, 'fpn'."""
        if not self.members:
            return {} if self.grid is None else self.grid.groups
        whole: dict[str, tuple[str, ...]] = {}
        for label, member in self.members.items():
            for kind, levels in member.groups.items():
                own = tuple(f"{label}.{level}" for level in levels)
                whole[f"{label}.{kind}"] = own
                whole[kind] = whole.get(kind, ()) + own
        return whole

    @property
    def nameless(self) -> "NetworkConfig":
        """Without names of classes, which no answer depends on: they are no part of a cache's name."""
        members = {label: member.nameless for label, member in self.members.items()}
        return replace(self, class_names=(), members=members)

    def class_difference(self, data: Sequence[str]) -> str:
        """How the classes of a teacher differ from those of the data, in words; '' where they do not, as far
        as is known. Of an ensemble that of the first member that differs."""
        if not self.members:
            return class_difference(data, self.class_names, self.num_classes)
        differ = (member.class_difference(data) for member in self.members.values())
        return next((words for words in differ if words), "")

    def classes_beside(self, data: Sequence[str]) -> tuple[str, ...]:
        """What it tells apart, by number, as a teacher on data of these classes; () where nobody knows."""
        for member in self.members.values():
            if member.class_difference(data):
                return member.classes_beside(data)
        if self.class_names:
            return self.class_names
        return tuple(data) if self.num_classes in (0, len(data)) else ()

    def to_dict(self) -> dict[str, object]:
        """Without fields that say nothing: what this is part of the name of a cache, and the names of before
        must stay."""
        later: dict[str, object] = {**written(self.task)}
        if self.members:
            later["members"] = {label: member.to_dict() for label, member in self.members.items()}
            later["mean"] = self.mean
        if self.grid is not None:
            later["grid"] = self.grid.to_dict()
        if self.class_names:
            later["class_names"] = list(self.class_names)
        return {
            "name": self.name,
            "num_classes": self.num_classes,
            "output_stride": self.output_stride,
            "aux": self.aux,
            "taps": dict(self.taps),
            **later,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, object], *, where: str = "network configuration") -> "NetworkConfig":
        """Raises BadOption for an unknown, absent or wrongly typed field: `raw` comes from a file."""
        legal = [entry.name for entry in fields(cls)]
        for name in raw:
            if name not in legal:
                raise unknown("field of a network", name, legal, where=where)
        taps, members = raw.get("taps", {}), raw.get("members", {})
        named = raw.get("class_names", [])
        numbers = [raw.get("num_classes"), raw.get("output_stride")]
        if not (
            isinstance(raw.get("name"), str)
            and all(type(n) is int and 0 <= n <= MAX_NUMBER for n in numbers)
            and all(type(raw.get(name, False)) is bool for name in ("aux", "mean"))
            and isinstance(taps, dict)
            and all(isinstance(word, str) for pair in taps.items() for word in pair)
            and isinstance(members, dict)
            and all(isinstance(member, dict) for member in members.values())
            and isinstance(named, list)
            and all(isinstance(name, str) for name in named)
        ):
            raise BadOption(
                f"not a network configuration: {str(dict(raw))[:MAX_SHOWN]}",
                where=where,
                fix="train the run again",
            )
        return cls(
            name=str(raw["name"]),
            num_classes=int(str(raw["num_classes"])),
            output_stride=int(str(raw["output_stride"])),
            aux=bool(raw.get("aux", False)),
            taps={str(tap): str(path) for tap, path in taps.items()},
            task=read_task(raw, where=where),
            members={str(label): cls.from_dict(member, where=where) for label, member in members.items()},
            mean=bool(raw.get("mean", False)),
            grid=_read_grid(raw.get("grid"), where),
            class_names=tuple(named),
        )


def grid_of(config: NetworkConfig) -> DenseGrid | None:
    """The grid of a detector, or the one that all members of an ensemble share; None where there is none."""
    if not config.members:
        return config.grid
    first, *others = (grid_of(member) for member in config.members.values())
    return first if all(grid == first for grid in others) else None


def _read_grid(raw: object, where: str) -> DenseGrid | None:
    if raw is None:
        return None
    try:
        if not isinstance(raw, Mapping):
            raise TypeError(f"a {type(raw).__name__}")
        return DenseGrid.from_dict(raw)
    except (KeyError, TypeError, ValueError) as damage:
        raise BadOption(
            f"not the grid of a detector: {damage}", where=where, fix="train the run again"
        ) from damage


def foreign_names(config: NetworkConfig) -> list[str]:
    """The factories behind a network and its members that no library of networks has."""
    factory = (
        [config.name] if ":" in config.name and not is_library(config.name) and not config.members else []
    )
    return factory + [name for member in config.members.values() for name in foreign_names(member)]
