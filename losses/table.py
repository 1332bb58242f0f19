"""Every loss by name. A loss of one's own is named as 'package.module:Class' and needs no entry.

Entries are text so that listing the names imports no tensor library.
"""

import importlib
from typing import TYPE_CHECKING

from kdcache.cache.spec import BadOption, Need, unknown

if TYPE_CHECKING:
    from kdcache.losses.contract import LossTerm

LOSSES: dict[str, str] = {
    "task": "kdcache.losses.task:SegmentationTask",
    "kd": "kdcache.losses.kd:PixelKD",
    "cwd": "kdcache.losses.cwd:ChannelWise",
    "mgd": "kdcache.losses.mgd:MaskedGeneration",
    "afdcd": "kdcache.losses.afdcd:DenseContrast",
}
NONE = "none"  # the expression for training without distillation: the task loss alone


def loss_names() -> tuple[str, ...]:
    """Names that an expression may use, 'none' first."""
    return (NONE, *LOSSES)


def needs_of(expression: str) -> tuple[Need, ...]:
    """What a teacher must provide for an expression. The settings of a dataset do not change that."""
    from kdcache.losses.plan import parse_losses  # late, as below; and a plan itself reads this table

    return parse_losses(expression, preset=None).needs


def load_loss(name: str, *, where: str) -> type["LossTerm"]:
    """The class behind a name or behind 'package.module:Class'. BadOption when there is none."""
    if ":" in name:
        return _import_class(name, where)
    if name not in LOSSES:
        raise unknown("loss", name, loss_names(), where=where)
    return _import_class(LOSSES[name], where)


def _import_class(path: str, where: str) -> type["LossTerm"]:
    from kdcache.losses.contract import LossTerm  # late: listing the names must stay light

    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists and misses an import of its own: its author wants that traceback
        raise BadOption(
            f"there is no module '{error.name}' to import",
            where=where,
            fix="install it or set PYTHONPATH to its folder",
        ) from error
    found = getattr(module, class_name, None)
    if found is None:
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, LossTerm)]
        raise unknown(f"class of module '{module_name}'", class_name, classes, where=where)
    if not (isinstance(found, type) and issubclass(found, LossTerm)):
        raise BadOption(
            f"'{path}' is not a loss class",
            where=where,
            fix="derive it from kdcache.losses.contract.LossTerm",
        )
    return found
