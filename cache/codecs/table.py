"""Codecs by name, and which one a tap takes when nobody says.

An outsider's codec is named 'package.module:Class'. A manifest is read, never trusted: a name that comes from
a cache needs consent (`kdcache.cache.trust`). Names typed by the user pass `may_import=True`.
"""

from collections.abc import Callable, Mapping

from kdcache.cache.codecs.contract import Codec
from kdcache.cache.codecs.int8 import Int8
from kdcache.cache.codecs.pixels import PIXEL_CODEC, Pixels
from kdcache.cache.codecs.raw import Raw
from kdcache.cache.errors import BadOption, unknown
from kdcache.cache.grid import BOX, CLS, CTR, kind_of
from kdcache.cache.spec import TensorSpec
from kdcache.cache.trust import import_named, require_trust

FEW_CLASSES = 32  # up to here int8 logits save too little to be worth 5 % gradient error (measured)


def _fp16() -> Codec:
    return Raw("float16")


def _fp32() -> Codec:
    return Raw("float32")


CODECS: Mapping[str, Callable[[], Codec]] = {"int8": Int8, "fp16": _fp16, "fp32": _fp32, "raw": _fp16}


def make_codec(name: str, *, may_import: bool = False) -> Codec:
    """The codec called `name`. Raises BadOption for an unknown name, and for code that nobody trusts."""
    if name in CODECS:
        return CODECS[name]()
    if name == PIXEL_CODEC:
        return Pixels()
    module_name, colon, class_name = name.partition(":")
    if not colon:
        raise unknown("codec", name, [*CODECS, "package.module:Class"], where="--tap NAME=CODEC")
    return _foreign(name, module_name, class_name, may_import)


def default_codec(tap: str, spec: TensorSpec) -> str:
    """Vectors, logits and class maps of up to 32 channels, and boxes: fp16. Every other map: int8."""
    own = tap.rpartition(".")[2]  # also a member's: 'a.logits'
    kind = kind_of(own)
    is_vector = len(spec.shape) == 1
    few = (own == "logits" or kind == CLS) and spec.channels <= FEW_CLASSES
    return "fp16" if is_vector or few or kind in (BOX, CTR) else "int8"


def _foreign(name: str, module_name: str, class_name: str, may_import: bool) -> Codec:
    if not may_import:
        require_trust([name], where="codec of a cache")
    try:
        make = getattr(import_named(name), class_name)
    except (ImportError, AttributeError) as error:
        raise BadOption(
            f"codec '{name}' cannot be loaded: {error}",
            where="--tap NAME=package.module:Class",
            fix="check the spelling, and that the module is importable from here (PYTHONPATH)",
        ) from error
    if not isinstance(make, type) or not all(
        hasattr(make, m) for m in ("parts", "encode", "decode", "bound")
    ):
        raise BadOption(
            f"'{name}' is not a codec",
            where=f"module '{module_name}'",
            fix="give it parts, encode, decode and bound as kdcache.cache.codecs.contract.Codec describes",
        )
    codec: Codec = make()
    if codec.name != name:
        raise BadOption(
            f"codec '{name}' calls itself '{codec.name}', so a cache that it made could not find it again",
            where=f"module '{module_name}'",
            fix=f"set its attribute name = '{name}'",
        )
    return codec
