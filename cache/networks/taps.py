"""Reading activations: one forward pass, several places.

A place is a module path, 'encoder.model.layer4', or a path with an item, 'encoder#5', where that module
returns a list or a dictionary. Hooks live for one pass only: a copy of the network (EMA, DDP, SyncBN) never
writes into another copy's results, and nothing stays behind when the pass fails.
"""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from kdcache.cache.errors import BadOption, nearest


def find_module(model: nn.Module, path: str, *, where: str) -> nn.Module:
    """The module at a path (an item after '#' is ignored). Raises BadOption that offers the nearest path."""
    module_path = path.partition("#")[0]
    if module_path:
        try:
            return model.get_submodule(module_path)
        except AttributeError:  # said below; to list every module of a network costs a step a millisecond
            pass
    modules: dict[str, nn.Module] = dict(model.named_modules())
    close = nearest(module_path, [name for name in modules if name])
    hint = f"did you mean '{close}'? " if close else ""
    children = ", ".join(name for name, _ in model.named_children())
    raise BadOption(f"no module '{path}' in the network", where=where, fix=f"{hint}top modules: {children}")


def read_places(
    model: nn.Module, inputs: Tensor, places: Mapping[str, str]
) -> tuple[object, dict[str, Tensor]]:
    """Runs the model once: what it returned, and what left each place. `places` maps a tap to its path.

    Raises BadOption where a module did not run, returned no tensor, or saw its output overwritten later in
    the pass (an activation in place behind it), because the value would then be another module's.
    """
    seen: dict[str, Tensor] = {}
    versions: dict[str, int] = {}
    hooks = []
    try:
        for tap, path in places.items():
            module = find_module(model, path, where=f"tap '{tap}'")
            hooks.append(module.register_forward_hook(_Recorder(tap, path, seen, versions)))
        returned: object = model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for tap, path in places.items():
        if tap not in seen:
            raise BadOption(
                f"module '{path}' took no part in the forward pass", where=f"tap '{tap}'", fix=_OTHER
            )
        if tap in versions and seen[tap]._version != versions[tap]:
            raise BadOption(
                f"the output of '{path}' is overwritten in place by the module behind it",
                where=f"tap '{tap}'",
                fix="name the activation behind it instead",
            )
    return returned, seen


_OTHER = "name another module; 'kdcache taps --teacher NAME' lists the taps"


class _Recorder:
    """One forward hook: keeps the output of its module."""

    def __init__(self, tap: str, path: str, seen: dict[str, Tensor], versions: dict[str, int]) -> None:
        self.tap, self.path, self.seen, self.versions = tap, path, seen, versions

    def __call__(self, module: nn.Module, inputs: object, output: object) -> None:
        value = select_item(output, self.path.partition("#")[2], where=f"tap '{self.tap}' at '{self.path}'")
        self.seen[self.tap] = value
        if not value.is_inference():  # those keep no version
            self.versions[self.tap] = value._version


def select_item(output: object, item: str, *, where: str) -> Tensor:
    """The tensor meant by a module's output: itself, the named or numbered item, else 'out' or the first
    one.
    """
    value = output
    if isinstance(output, Mapping):
        value = output.get(item or "out", None if item else next(iter(output.values()), None))
    elif isinstance(output, Sequence):
        index = int(item) if item.isdigit() else 0
        value = output[index] if index < len(output) else None
    if not isinstance(value, Tensor):
        kinds = _describe(output)
        raise BadOption(
            f"the module returns {kinds}, not a tensor", where=where, fix=f"add '#item', or {_OTHER}"
        )
    return value


def _describe(output: object) -> str:
    names: Iterable[object] = output if isinstance(output, Mapping) else ()
    listed = f" of {', '.join(map(str, names))}" if isinstance(output, Mapping) else ""
    size = f" of {len(output)}" if isinstance(output, Sequence) else ""
    return f"a {type(output).__name__}{listed}{size}"
