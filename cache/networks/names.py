"""Names of networks: what a user writes after --teacher and --student, parsed without importing any library
of networks.

    r18 r34 r50 r101 mbv2         a short encoder name: under DeepLabV3 for segmentation, as timm:NAME for
                                  classification
    deeplabv3:ENCODER             segmentation; any timm encoder; ENCODER may be a short name
    pspnet:ENCODER                segmentation
    tv:deeplabv3_resnet101        segmentation; torchvision's own networks
    timm:NAME                     segmentation: a backbone alone, no classes; classification: all of it
    resnet20 resnet8x4 wrn-40-2   classification; CIFAR networks (families/cifar.py); resnet20a: option A
    package.module:factory        yours; see families/custom.py

Which families a task has, and what a short name stands for, is the task's word (`NetworkRules`).
`ENCODER.same` asks for the conventions of networks born in TensorFlow: SAME padding, pixels scaled to -1..1.
"""

import importlib.util
import re
from typing import NamedTuple

from kdcache.cache.errors import BadOption, nearest
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
TIMM = "timm"
TORCHVISION = "tv"
CIFAR = "cifar"
CUSTOM = "custom"
LIBRARIES = (*HEADS, TIMM, TORCHVISION)  # written FAMILY:BODY, built from libraries alone
TORCHVISION_NETWORKS = ("deeplabv3_resnet50", "deeplabv3_resnet101", "fcn_resnet50", "fcn_resnet101")
NUM_VOC_CLASSES = 21  # of torchvision's networks: background first, then VOC's order
CIFAR_RESNETS = (
    *("resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
    *("resnet8x4", "resnet32x4"),
    *("resnet20a", "resnet32a", "resnet44a", "resnet56a", "resnet110a"),
)
CIFAR_WIDE = ("wrn-16-1", "wrn-16-2", "wrn-40-1", "wrn-40-2")  # the papers'; any wrn-D-W with D = 6n+4 works
SAME = ".same"
_WIDE = re.compile(r"wrn-([1-9]\d*)-([1-9]\d*)")
_LISTED = {  # family -> those of its names that can be listed
    **{family: tuple(f"{family}:{encoder}" for encoder in SHORT_NAMES.values()) for family in (*HEADS, TIMM)},
    TORCHVISION: tuple(f"{TORCHVISION}:{name}" for name in TORCHVISION_NETWORKS),
    CIFAR: (*CIFAR_RESNETS, *CIFAR_WIDE),
}


class NetworkName(NamedTuple):
    """A parsed name. `str()` is the resolved text that manifests and run folders keep."""

    family: str  # 'deeplabv3', 'pspnet', 'timm', 'tv', 'cifar' or 'custom'
    body: str  # encoder, model, or 'package.module:factory'

    def __str__(self) -> str:
        return self.body if self.family in (CUSTOM, CIFAR) else f"{self.family}:{self.body}"

    @property
    def tag(self) -> str:
        """The pretrained tag inside a timm name: 'a1_in1k' of 'timm:resnet50.a1_in1k', else ''."""
        return self.body.removesuffix(SAME).partition(".")[2] if self.family in (*HEADS, TIMM) else ""


def parse_name(text: str, *, task: Task, where: str = "name of a network") -> NetworkName:
    """The network a name stands for under a task. Raises BadOption naming the nearest legal name."""
    rules = task_of(task).networks
    name = _read(text, rules.short_family)
    if name is None:
        raise unknown_network(text, where=where, task=task)
    if name.family not in rules.families:
        owners = " or ".join(
            other for other in task_names() if name.family in task_of(other).networks.families
        )
        raise BadOption(
            f"'{text}' is a network for {owners}, and the data are for {task}", where=where, fix=rules.instead
        )
    return name


def first_task_with(text: str) -> Task:
    """The first task of the table whose networks have this name; the table's first where none has it."""
    names = task_names()
    for task in names:
        rules = task_of(task).networks
        name = _read(text, rules.short_family)
        if name is not None and name.family in rules.families:
            return task
    return names[0]


def known_names(task: Task) -> tuple[str, ...]:
    """The names that can be listed; every timm network makes further ones."""
    families = task_of(task).networks.families
    return (*SHORT_NAMES, *(name for family in families for name in _LISTED.get(family, ())))


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


def _read(text: str, short_family: str) -> NetworkName | None:
    """A name by its form alone; None for one that no family has. Short names are of `short_family`."""
    family, colon, body = text.partition(":")
    if not colon:
        if text in SHORT_NAMES:
            return NetworkName(short_family, SHORT_NAMES[text])
        return NetworkName(CIFAR, text) if text in CIFAR_RESNETS or wide_size(text) else None
    if family == TORCHVISION and body not in TORCHVISION_NETWORKS:
        return None
    if family in LIBRARIES and body:
        return NetworkName(family, SHORT_NAMES.get(body, body))
    return NetworkName(CUSTOM, text) if body and _is_module(family) else None


def _is_module(dotted: str) -> bool:
    """Whether its package is there: to look for the module itself would run the package's own code."""
    try:
        return importlib.util.find_spec(dotted.partition(".")[0]) is not None
    except (ModuleNotFoundError, ValueError):
        return False
