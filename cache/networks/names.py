"""Names of networks: what a user writes after --teacher and --student, parsed without importing any library
of networks.

    r18 r34 r50 r101 mbv2         a short encoder name: under DeepLabV3 for segmentation, as timm:NAME for
                                  classification
    deeplabv3:ENCODER             segmentation; any timm encoder; ENCODER may be a short name
    pspnet:ENCODER                segmentation
    retinanet:ENCODER fcos:ENCODER atss:ENCODER gfl:ENCODER   one-stage detectors on any timm encoder
    'gfl(width=128,convs=2):r18'  the same with options, for families that have some (gfl, atss)
    tv:deeplabv3_resnet101        torchvision's own networks, for the tasks that list them
    timm:NAME                     segmentation: a backbone alone, no classes; classification: all of it
    resnet20 resnet8x4 wrn-40-2   classification; CIFAR networks (families/cifar.py); resnet20a: option A
    package.module:factory        yours; see families/custom.py

Which families a task has, and what a short name stands for, is the task's word (`NetworkRules`).
`ENCODER.same` asks for the conventions of networks born in TensorFlow: SAME padding, pixels scaled to -1..1.
"""

import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.errors import BadOption, nearest, unknown
from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import task_names, task_of

SHORT_NAMES = {
    "r18": "resnet18",
    "r34": "resnet34",
    "r50": "resnet50",
    "r101": "resnet101",
    "mbv2": "mobilenetv2_100",
}
HEADS = ("deeplabv3", "pspnet")  # families with a head of ours, which must be trained before it can teach
DETECTORS = ("retinanet", "fcos", "atss", "gfl")  # dense heads of ours on a feature pyramid
TIMM = "timm"
TORCHVISION = "tv"
CIFAR = "cifar"
CUSTOM = "custom"
LIBRARIES = (*HEADS, *DETECTORS, TIMM, TORCHVISION)  # written FAMILY:BODY, built from libraries alone
NUM_VOC_CLASSES = 21  # background first, then VOC's order
NUM_COCO_CLASSES = 80  # in the order of COCO's own list, without its gaps
TEACHER = "--teacher (no run has this name)"  # where a name was typed that is no network's either


class Pretrained(NamedTuple):
    """What makes one of torchvision's networks a teacher without training."""

    tag: str
    num_classes: int
    classes: str  # whose they are, for people
    example_data: str
    head_alone: bool = False  # a student of other classes can take all but the last layer


_VOC = Pretrained("COCO_WITH_VOC_LABELS_V1", NUM_VOC_CLASSES, "VOC", "voc")
_COCO = Pretrained("COCO_V1", NUM_COCO_CLASSES, "COCO", "coco", head_alone=True)
TORCHVISION_NETWORKS: Mapping[str, Pretrained] = {
    "deeplabv3_resnet50": _VOC,
    "deeplabv3_resnet101": _VOC,
    "fcn_resnet50": _VOC,
    "fcn_resnet101": _VOC,
    "retinanet_resnet50_fpn": _COCO,
    "retinanet_resnet50_fpn_v2": _COCO,
    "fcos_resnet50_fpn": _COCO,
}


class NameOption(NamedTuple):
    """A number inside a name: 'width' of 'gfl(width=128):r18'."""

    default: int  # never written: 'gfl(width=256):r18' is 'gfl:r18'
    words: str  # which values there are, for the error
    legal: Callable[[int], bool]


_TOWERS = {
    "width": NameOption(256, "a multiple of 16", lambda n: n > 0 and n % 16 == 0),
    "convs": NameOption(4, "1 to 8", lambda n: 1 <= n <= 8),
}
OPTIONS: Mapping[str, Mapping[str, NameOption]] = {"gfl": _TOWERS, "atss": _TOWERS}
CIFAR_RESNETS = (
    *("resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
    *("resnet8x4", "resnet32x4"),
    *("resnet20a", "resnet32a", "resnet44a", "resnet56a", "resnet110a"),
)
CIFAR_WIDE = ("wrn-16-1", "wrn-16-2", "wrn-40-1", "wrn-40-2")  # the papers'; any wrn-D-W with D = 6n+4 works
SAME = ".same"
_WIDE = re.compile(r"wrn-([1-9]\d*)-([1-9]\d*)")
_WITH_OPTIONS = re.compile(r"([A-Za-z_]\w*)\((.*)\)")
_OUTSIDE = re.compile(r",(?![^()]*\))")  # a comma that is not inside brackets
ENCODED = (*HEADS, *DETECTORS, TIMM)  # families whose body is a network of timm
_LISTED = {  # family -> those of its names that can be listed
    **{family: tuple(f"{family}:{encoder}" for encoder in SHORT_NAMES.values()) for family in ENCODED},
    CIFAR: (*CIFAR_RESNETS, *CIFAR_WIDE),
}


class NetworkName(NamedTuple):
    """A parsed name. `str()` is the resolved text that manifests and run folders keep."""

    family: str  # 'deeplabv3', 'pspnet', 'gfl', 'timm', 'tv', 'cifar', 'custom' ...
    body: str  # encoder, model, or 'package.module:factory'
    options: tuple[tuple[str, int], ...] = ()  # those that are not the default, in the order of the table

    def __str__(self) -> str:
        if self.family in (CUSTOM, CIFAR):
            return self.body
        written = ",".join(f"{name}={value}" for name, value in self.options)
        return f"{self.family}({written}):{self.body}" if written else f"{self.family}:{self.body}"

    def option(self, name: str) -> int:
        """Its value as written, else the default."""
        return dict(self.options).get(name, OPTIONS[self.family][name].default)

    @property
    def tag(self) -> str:
        """The pretrained tag inside a timm name: 'a1_in1k' of 'timm:resnet50.a1_in1k', else ''."""
        return self.body.removesuffix(SAME).partition(".")[2] if self.family in ENCODED else ""


def parse_name(text: str, *, task: Task, where: str = "name of a network") -> NetworkName:
    """The network a name stands for under a task. Raises BadOption naming the nearest legal name."""
    rules = task_of(task).networks
    name = _read(text, rules.short_family, where)
    if name is None:
        raise unknown_network(text, where=where, task=task)
    if not _has(task, name):
        owners = " or ".join(other for other in task_names() if _has(other, name))
        raise BadOption(
            f"'{text}' is a network for {owners}, and the data are for {task}", where=where, fix=rules.instead
        )
    return name


def first_task_with(text: str) -> Task:
    """The first task of the table whose networks have this name; the table's first where none has it."""
    names = task_names()
    for task in names:
        name = _read(text, task_of(task).networks.short_family, "name of a network")
        if name is not None and _has(task, name):
            return task
    return names[0]


def check_name(text: str, task: Task | None, where: str) -> None:
    """Raises BadOption for a name that stands for no network of `task`, of no task where it is not known."""
    if task is not None:
        parse_name(text, task=task, where=where)
        return
    named = (_read(text, task_of(one).networks.short_family, where) for one in task_names())
    if not any(name is not None and _has(one, name) for one, name in zip(task_names(), named, strict=True)):
        close = nearest(text, [name for one in task_names() for name in known_names(one)])
        owner = next((one for one in task_names() if close in known_names(one)), task_names()[0])
        raise unknown_network(text, task=owner, where=where)


def check_teacher(text: str, task: Task | None, runs_dir: Path, where: str) -> None:
    """The same of a teacher, who may be a run, or several."""
    for member in member_names(text, runs_dir):
        if run_folder(member, runs_dir) is None:
            _check_member(member, task, runs_dir, where)


def _check_member(member: str, task: Task | None, runs_dir: Path, where: str) -> None:
    """Raises BadOption that names the nearest run, where a run's name is nearer than a network's."""
    try:
        check_name(member, task, where)
    except BadOption as error:
        runs = [path.name for path in runs_dir.iterdir() if path.is_dir()] if runs_dir.is_dir() else []
        networks = [name for one in task_names() for name in known_names(one)]
        close = nearest(member, [*runs, *networks])
        if close not in runs:
            raise
        rest = re.sub(r"^did you mean '[^']*'\? ", "", error.fix)
        raise BadOption(error.what, where=error.where, fix=f"did you mean '{close}'? {rest}") from error


def known_names(task: Task) -> tuple[str, ...]:
    """The names that can be listed; every timm network makes further ones."""
    rules = task_of(task).networks
    own = tuple(f"{TORCHVISION}:{name}" for name in rules.torchvision)
    return (*SHORT_NAMES, *(name for family in rules.families for name in _LISTED.get(family, ())), *own)


def split_names(text: str) -> list[str]:
    """The networks of 'a,b,c', without blanks; commas inside brackets are of one name."""
    return [name.strip() for name in _OUTSIDE.split(text)]


def is_library(text: str) -> bool:
    """Whether a name is FAMILY:BODY of the libraries' families, whatever its options."""
    family, colon, _ = text.partition(":")
    return bool(colon) and family.partition("(")[0] in LIBRARIES


def unknown_network(
    text: str, candidates: tuple[str, ...] = (), *, task: Task, where: str = "name of a network"
) -> BadOption:
    """The error for a name that stands for nothing; `candidates` are further names to look among."""
    rules = task_of(task).networks
    close = nearest(text, (*known_names(task), *candidates))
    if CIFAR in rules.families and text in SHORT_NAMES.values():
        close = f"{TIMM}:{text}"  # 'resnet50' is no 'resnet56'
    hint = f"did you mean '{close}'? " if close else ""
    return BadOption(f"unknown network '{text}'", where=where, fix=f"{hint}forms: {rules.forms}")


def wide_size(text: str) -> tuple[int, int] | None:
    """(depth, width factor) of 'wrn-40-2'; None for another name or a depth that is not 6n + 4."""
    match = _WIDE.fullmatch(text)
    depth, factor = (int(match[1]), int(match[2])) if match else (0, 0)
    return (depth, factor) if depth >= 10 and (depth - 4) % 6 == 0 else None


def _has(task: Task, name: NetworkName) -> bool:
    rules = task_of(task).networks
    return name.family in rules.families and (name.family != TORCHVISION or name.body in rules.torchvision)


def _read(text: str, short_family: str, where: str) -> NetworkName | None:
    """A name by its form alone; None for one that no family has. Short names are of `short_family`."""
    family, colon, body = text.partition(":")
    if not colon:
        if text in SHORT_NAMES:
            return NetworkName(short_family, SHORT_NAMES[text])
        return NetworkName(CIFAR, text) if text in CIFAR_RESNETS or wide_size(text) else None
    match = _WITH_OPTIONS.fullmatch(family)
    options: tuple[tuple[str, int], ...] = ()
    if match and match[1] in LIBRARIES:
        family, options = match[1], _read_options(match[1], match[2], where)
    if family == TORCHVISION and body not in TORCHVISION_NETWORKS:
        return None
    if family in LIBRARIES and body:
        return NetworkName(family, SHORT_NAMES.get(body, body), options)
    return NetworkName(CUSTOM, text) if body and _is_module(family) else None


def _read_options(family: str, text: str, where: str) -> tuple[tuple[str, int], ...]:
    """'width=128,convs=2' of a family. Raises BadOption for what it does not have or cannot be."""
    table = OPTIONS.get(family)
    if table is None:
        raise BadOption(
            f"'{family}({text})': networks of {family} have no options",
            where=where,
            fix=f"write {family}:NAME; families with options: {', '.join(OPTIONS)}",
        )
    given: dict[str, int] = {}
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in table:
            raise unknown(f"option of {family}", name, table, where=where)
        number = int(value) if value.isdecimal() else -1
        if name in given or not table[name].legal(number):
            raise BadOption(
                f"'{part.strip()}' {'again' if name in given else 'is no value of it'} in '{family}({text})'",
                where=where,
                fix=f"give {name} once, {table[name].words}: '{family}({name}={table[name].default}):NAME'",
            )
        given[name] = number
    return tuple(
        (name, given[name]) for name, one in table.items() if given.get(name, one.default) != one.default
    )


def _is_module(dotted: str) -> bool:
    """Whether its package is there: to look for the module itself would run the package's own code."""
    try:
        return importlib.util.find_spec(dotted.partition(".")[0]) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def run_folder(name: str, runs_dir: Path) -> Path | None:
    """The folder of the run that a teacher's name means; None for a network."""
    named = runs_dir / name
    if ":" not in name and named.is_dir():
        return named
    path = Path(name)
    return path if os.sep in name and path.is_dir() else None


def member_names(name: str, runs_dir: Path) -> list[str]:
    """The teachers that 'a,b,c' names; one for a run whose name holds a comma. Raises BadOption for one named
    twice."""
    if run_folder(name, runs_dir) is not None:
        return [name]
    names = split_names(name)
    folders = [run_folder(member, runs_dir) for member in names]
    same = [str(f.resolve()) if f else n for f, n in zip(folders, names, strict=True)]
    twice = next((n for index, n in enumerate(names) if folders[index] and same[index] in same[:index]), None)
    if twice is not None or "" in names:
        what = f"run '{twice}' is named twice" if twice else "a name is missing"
        raise BadOption(
            f"{what} in the ensemble '{name}'", where=f"--teacher {name}", fix="name every teacher once"
        )
    return names
