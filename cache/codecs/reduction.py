"""What a need keeps of a tap besides the tap itself: a function named 'package.module:function'.

A cache names reductions too, and a cache may come from a stranger: a name read from one needs consent
(`kdcache.cache.trust`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kdcache.cache.errors import BadOption
from kdcache.cache.spec import TensorSpec
from kdcache.cache.trust import import_named, module_of, require_trust

if TYPE_CHECKING:
    from torch import Tensor

Reduction = Callable[["Tensor"], "Tensor"]  # a tap's value (B, C, H, W) -> what the need reads of it


def load_reduction(path: str, *, may_import: bool = True) -> Reduction:
    """The function named 'package.module:function'. Raises BadOption when it cannot be found, or when
    nobody trusts it."""
    if not may_import:
        require_trust([path], where="reduction of a cache")
    try:
        reduction: Reduction = getattr(import_named(path), path.partition(":")[2])
        if not may_import and getattr(reduction, "__module__", "") != module_of(path):
            raise AttributeError("the module only imports it")  # a file must not reach through our modules
    except (ImportError, AttributeError, ValueError) as error:
        raise BadOption(
            f"the reduction '{path}' cannot be found: {error}",
            where="the needs of the loss",
            fix="name an importable function as 'package.module:function'",
        ) from error
    return reduction


def reduced_spec(path: str, spec: TensorSpec) -> TensorSpec:
    """The spec of the reduced value, found by running the function on zeros of the tap's shape."""
    import torch  # here: most caches keep taps as they are, and their sizes are asked without it

    value = load_reduction(path)(torch.zeros((1, spec.channels, *spec.shape[:-1])))
    if value.ndim == 2:
        return TensorSpec((value.shape[1],), 0)
    if tuple(value.shape[2:]) != tuple(spec.shape[:-1]):
        raise BadOption(
            f"the reduction '{path}' changes the map from {spec.shape[:-1]} to "
            f"{tuple(value.shape[2:])} cells",
            where="the needs of the loss",
            fix="keep the map's size, or return a vector (B, C)",
        )
    return TensorSpec((*spec.shape[:-1], value.shape[1]), spec.stride)
