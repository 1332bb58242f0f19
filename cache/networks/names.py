"""Names of networks: what a user writes after --teacher and --student, parsed without importing any library
of networks.

    r18 r34 r50 r101 mbv2         a short encoder name under the default head, DeepLabV3
    deeplabv3:ENCODER             any timm encoder; ENCODER may be a short name
    pspnet:ENCODER
    timm:NAME                     a backbone alone: stages, no classes
    tv:deeplabv3_resnet101        torchvision's own segmentation networks
    package.module:factory        yours; see factory.py

`ENCODER.same` asks for the conventions of networks born in TensorFlow: SAME padding, pixels scaled to -1..1.
"""

import importlib.util
from typing import NamedTuple

from kdcache.cache.errors import BadOption, nearest

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
CUSTOM = "custom"
FORMS = (
    "r18, r34, r50, r101, mbv2, deeplabv3:ENCODER, pspnet:ENCODER, timm:NAME, tv:NAME, package.module:factory"
)


class NetworkName(NamedTuple):
    """A parsed name. `str()` is the resolved text that manifests and run folders keep."""

    family: str  # 'deeplabv3', 'pspnet', 'timm', 'tv' or 'custom'
    body: str  # encoder, model, or 'package.module:factory'

    def __str__(self) -> str:
        return self.body if self.family == CUSTOM else f"{self.family}:{self.body}"

    @property
    def segments(self) -> bool:
        """True for names with a segmentation head of ours, which must be trained before it can teach."""
        return self.family in HEADS


def parse_name(text: str, *, where: str = "name of a network") -> NetworkName:
    """The network a name stands for. Raises BadOption naming the nearest legal name."""
    family, colon, body = text.partition(":")
    if not colon:
        if text not in SHORT_NAMES:
            raise unknown_network(text, where=where)
        return NetworkName(DEFAULT_HEAD, SHORT_NAMES[text])
    if family == "tv" and body not in TORCHVISION:
        raise unknown_network(text, where=where)
    if family in (*HEADS, "timm", "tv") and body:
        return NetworkName(family, SHORT_NAMES.get(body, body))
    if not body or not _is_module(family):
        raise unknown_network(text, where=where)
    return NetworkName(CUSTOM, text)


def known_names() -> tuple[str, ...]:
    """The names that can be listed; every timm encoder makes further ones."""
    headed = [f"{head}:{encoder}" for head in HEADS for encoder in SHORT_NAMES.values()]
    backbones = [f"timm:{encoder}" for encoder in SHORT_NAMES.values()]
    return (*SHORT_NAMES, *headed, *backbones, *(f"tv:{name}" for name in TORCHVISION))


def unknown_network(
    text: str, candidates: tuple[str, ...] = (), *, where: str = "name of a network"
) -> BadOption:
    """The error for a name that stands for nothing; `candidates` are further names to look among."""
    close = nearest(text, (*known_names(), *candidates))
    hint = f"did you mean '{close}'? " if close else ""
    return BadOption(f"unknown network '{text}'", where=where, fix=f"{hint}forms: {FORMS}")


def _is_module(dotted: str) -> bool:
    try:
        return importlib.util.find_spec(dotted) is not None
    except (ModuleNotFoundError, ValueError):
        return False
