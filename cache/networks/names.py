"""Names of networks: what a user writes after --teacher and --student, parsed without importing any library
of networks.

    r18 r34 r50 r101 mbv2         a short encoder name: under DeepLabV3 for segmentation, as timm:NAME for
                                  classification
    deeplabv3:ENCODER             segmentation; any timm encoder; ENCODER may be a short name
    pspnet:ENCODER                segmentation
    tv:deeplabv3_resnet101        segmentation; torchvision's own networks
    timm:NAME                     segmentation: a backbone alone, no classes; classification: all of it
    resnet20 resnet8x4 wrn-40-2   classification; CIFAR networks (cifar_resnets.py); resnet20a: option A
    package.module:factory        yours; see factory.py

`ENCODER.same` asks for the conventions of networks born in TensorFlow: SAME padding, pixels scaled to -1..1.
"""

import importlib.util
import re
from typing import NamedTuple

from kdcache.cache.errors import BadOption, nearest
from kdcache.cache.spec import CLASSIFICATION, SEGMENTATION, Task

SHORT_NAMES = {
    "r18": "resnet18",
    "r34": "resnet34",
    "r50": "resnet50",
    "r101": "resnet101",
    "mbv2": "mobilenetv2_100",
}
HEADS = ("deeplabv3", "pspnet")
DEFAULT_HEAD = "deeplabv3"
TORCHVISION = ("deeplabv3_resnet50", "deeplabv3_resnet101", "fcn_resnet50", "fcn_resnet101")
CIFAR_RESNETS = (
    *("resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
    *("resnet8x4", "resnet32x4"),
    *("resnet20a", "resnet32a", "resnet44a", "resnet56a", "resnet110a"),
)
CIFAR_WIDE = ("wrn-16-1", "wrn-16-2", "wrn-40-1", "wrn-40-2")  # the papers'; any wrn-D-W with D = 6n+4 works
_WIDE = re.compile(r"wrn-([1-9]\d*)-([1-9]\d*)")
CIFAR = "cifar"
TIMM = "timm"
CUSTOM = "custom"
SAME = ".same"
FORMS = {
    SEGMENTATION: "r18, r34, r50, r101, mbv2, deeplabv3:ENCODER, pspnet:ENCODER, timm:NAME, tv:NAME, "
    "package.module:factory",
    CLASSIFICATION: "r18, r34, r50, r101, mbv2, timm:NAME, resnet20, resnet8x4 and the other CIFAR ResNets, "
    "wrn-D-W, package.module:factory",
}


class NetworkName(NamedTuple):
    """A parsed name. `str()` is the resolved text that manifests and run folders keep."""

    family: str  # 'deeplabv3', 'pspnet', 'timm', 'tv', 'cifar' or 'custom'
    body: str  # encoder, model, or 'package.module:factory'

    def __str__(self) -> str:
        return self.body if self.family in (CUSTOM, CIFAR) else f"{self.family}:{self.body}"

    @property
    def segments(self) -> bool:
        """True for names with a segmentation head of ours, which must be trained before it can teach."""
        return self.family in HEADS

    @property
    def tag(self) -> str:
        """The pretrained tag inside a timm name: 'a1_in1k' of 'timm:resnet50.a1_in1k', else ''."""
        return self.body.removesuffix(SAME).partition(".")[2] if self.family in (*HEADS, TIMM) else ""


def parse_name(text: str, *, where: str = "name of a network", task: Task = SEGMENTATION) -> NetworkName:
    """The network a name stands for under a task. Raises BadOption naming the nearest legal name."""
    family, colon, body = text.partition(":")
    if not colon:
        return _plain(text, where, task)
    if family == "tv" and body not in TORCHVISION:
        raise unknown_network(text, where=where, task=task)
    if family in (*HEADS, "tv") and body and task == CLASSIFICATION:
        raise _wrong_task(text, where, task, "take r18, timm:NAME or a CIFAR network such as resnet20")
    if family in (*HEADS, TIMM, "tv") and body:
        return NetworkName(family, SHORT_NAMES.get(body, body))
    if not body or not _is_module(family):
        raise unknown_network(text, where=where, task=task)
    return NetworkName(CUSTOM, text)


def known_names(task: Task = SEGMENTATION) -> tuple[str, ...]:
    """The names that can be listed; every timm network makes further ones."""
    backbones = [f"timm:{encoder}" for encoder in SHORT_NAMES.values()]
    if task == CLASSIFICATION:
        return (*SHORT_NAMES, *backbones, *CIFAR_RESNETS, *CIFAR_WIDE)
    headed = [f"{head}:{encoder}" for head in HEADS for encoder in SHORT_NAMES.values()]
    return (*SHORT_NAMES, *headed, *backbones, *(f"tv:{name}" for name in TORCHVISION))


def unknown_network(
    text: str,
    candidates: tuple[str, ...] = (),
    *,
    where: str = "name of a network",
    task: Task = SEGMENTATION,
) -> BadOption:
    """The error for a name that stands for nothing; `candidates` are further names to look among."""
    close = nearest(text, (*known_names(task), *candidates))
    if task == CLASSIFICATION and text in SHORT_NAMES.values():
        close = f"{TIMM}:{text}"  # 'resnet50' is no 'resnet56'
    hint = f"did you mean '{close}'? " if close else ""
    return BadOption(f"unknown network '{text}'", where=where, fix=f"{hint}forms: {FORMS[task]}")


def wide_size(text: str) -> tuple[int, int] | None:
    """(depth, width factor) of 'wrn-40-2'; None for another name or a depth that is not 6n + 4."""
    found = _WIDE.fullmatch(text)
    depth, factor = (int(found[1]), int(found[2])) if found else (0, 0)
    return (depth, factor) if depth >= 10 and (depth - 4) % 6 == 0 else None


def _plain(text: str, where: str, task: Task) -> NetworkName:
    if text in SHORT_NAMES:
        family = TIMM if task == CLASSIFICATION else DEFAULT_HEAD
        return NetworkName(family, SHORT_NAMES[text])
    if text not in CIFAR_RESNETS and wide_size(text) is None:
        raise unknown_network(text, where=where, task=task)
    if task == SEGMENTATION:
        raise _wrong_task(text, where, task, "take r18, deeplabv3:ENCODER or pspnet:ENCODER")
    return NetworkName(CIFAR, text)


def _wrong_task(text: str, where: str, task: Task, fix: str) -> BadOption:
    own = CLASSIFICATION if task == SEGMENTATION else SEGMENTATION
    return BadOption(f"'{text}' is a network for {own}, and the data are for {task}", where=where, fix=fix)


def _is_module(dotted: str) -> bool:
    try:
        return importlib.util.find_spec(dotted) is not None
    except (ModuleNotFoundError, ValueError):
        return False
