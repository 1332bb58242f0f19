"""The class behind the name of a loss, imported when it is asked for."""

from kdcache.cache.spec import BadOption, Task, unknown
from kdcache.cache.tasks.table import task_row
from kdcache.cache.trust import import_named
from kdcache.losses.contract import LossTerm
from kdcache.losses.plan.table import LOSSES, TASK, loss_names


def load_loss(name: str, *, task: Task, where: str) -> type[LossTerm]:
    """The class behind a name or behind 'package.module:Class'; 'task' is the supervised loss of `task`.

    Raises BadOption for a task or a loss that is in no table, and where there is no such class. Whether a
    method is for the task is not asked here.
    """
    row = task_row(task, where=where)
    if name == TASK:
        return _import_class(row.supervised, where)
    if ":" in name:
        return _import_class(name, where)
    if name not in LOSSES:
        raise unknown("loss", name, loss_names(), where=where)
    return _import_class(LOSSES[name], where)


def _import_class(path: str, where: str) -> type[LossTerm]:
    module_name, _, class_name = path.partition(":")
    try:
        module = import_named(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists and misses an import of its own: its author wants that traceback
        raise BadOption(
            f"there is no module '{error.name}' to import",
            where=where,
            fix="install it or set PYTHONPATH to its folder",
        ) from error
    loss_class = getattr(module, class_name, None)
    if loss_class is None:
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, LossTerm)]
        raise unknown(f"class of module '{module_name}'", class_name, classes, where=where)
    if not (isinstance(loss_class, type) and issubclass(loss_class, LossTerm)):
        raise BadOption(
            f"'{path}' is not a loss class",
            where=where,
            fix="derive it from kdcache.losses.contract.LossTerm",
        )
    return loss_class
