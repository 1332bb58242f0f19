"""build_network: a name and a few options to a Network, with weights in it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, Protocol

from kdcache.cache.errors import BadOption, BadWeights, KdError
from kdcache.cache.networks.ensemble import Ensemble, member_taps
from kdcache.cache.networks.files.weights_file import WeightsFile, named_file, read_weights
from kdcache.cache.networks.names import (
    CIFAR,
    CIFAR_RESNETS,
    CUSTOM,
    ENCODED,
    TIMM,
    TORCHVISION,
    TORCHVISION_NETWORKS,
    NetworkName,
    parse_name,
)
from kdcache.cache.networks.network import Assembly, Network
from kdcache.cache.networks.network_config import NetworkConfig
from kdcache.cache.networks.run_card import student_weights
from kdcache.cache.networks.weights import fit_weights
from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import load, task_names, task_of

BACKBONE_STRIDE = 32  # of a network that gives features alone
NONE = "none"

Role = Literal["teacher", "student"]


class Assemble(Protocol):
    """What a task names for a family of networks: the module, freshly initialised, and where its taps are."""

    def __call__(
        self, name: NetworkName, *, num_classes: int, output_stride: int, aux: bool, task: Task
    ) -> Assembly:
        """`num_classes` 0: none, or the network's own. `output_stride` 0: the network's own."""
        ...


def build_network(
    name: str,
    *,
    task: Task,
    num_classes: int | None,
    output_stride: int | None = None,
    aux: bool = False,
    weights: str | None = None,
    taps: Mapping[str, str] | None = None,
    role: Role = "teacher",
) -> Network:
    """A network by name (names.py lists the forms).

    `output_stride` None is the task's default, 32 for a backbone alone, the network's own where there is no
    choice. `weights`: None or 'none' for random ones, a tag, a file, a part of one (FILE#KEY), a run folder.
    A backbone's file leaves the head untrained; of weights for other classes a student takes all but the
    classifier. `aux`: with an auxiliary head. Raises BadOption, BadWeights, Missing.
    """
    parsed = parse_name(name, where=f"--{role}", task=task)
    classes = _num_classes(parsed, num_classes, role, task)
    stride = output_stride or _default_stride(parsed, task)
    fresh = role == "student"
    # Before building: a wrong path is said at once.
    file = None if weights in (None, NONE) else find_weights(parsed, str(weights), classes, fresh_head=fresh)
    assembly = _assemble(parsed, task, classes, stride, aux)
    config = NetworkConfig(
        name=str(parsed),
        num_classes=classes,
        output_stride=assembly.output_stride or stride,
        task=task,
        aux="aux" in assembly.taps,
        taps=dict(taps or {}),
        grid=assembly.grid,
    )
    # What a factory of the user's own returns is taken as it is: it may have loaded anything.
    network = Network(config, assembly, trained_head=parsed.family == CUSTOM)
    _try_out(network, role)
    if file is not None:
        network.trained_head |= _fitted(network, parsed, file, fresh)
    return network


def _fitted(network: Network, name: NetworkName, file: WeightsFile, fresh: bool) -> bool:
    """As `fit_weights`, whose error names the network with the other shortcuts where the file is of that."""
    try:
        return fit_weights(network, file, fresh_head=fresh)
    except BadWeights as error:
        if (better := _of_variant(error, name, file, network, fresh)) is None:
            raise
        raise better from error


def _of_variant(
    error: BadWeights, name: NetworkName, file: WeightsFile | None, network: Network, fresh: bool
) -> BadWeights | None:
    """The same error, its fix naming the other kind of shortcuts, where the file fits a network of it."""
    rival = name.body.removesuffix("a") if name.body.endswith("a") else f"{name.body}a"
    if name.family != CIFAR or rival not in CIFAR_RESNETS or file is None:
        return None
    built = Network(
        replace(network.config, name=rival),
        _assemble(NetworkName(CIFAR, rival), network.task, network.num_classes, network.output_stride, False),
        trained_head=False,
    )
    try:
        fit_weights(built, file, fresh_head=fresh)
    except BadWeights:
        return None
    fix = f"name '{rival}', which these weights fit; '{name}' has other shortcuts"
    return BadWeights(error.what, where=error.where, fix=fix)


def _default_stride(name: NetworkName, task: Task) -> int:
    """0: the network's own."""
    rules = task_of(task).networks
    return BACKBONE_STRIDE if name.family in rules.features_only else rules.default_stride or 0


def refuse_stride(output_stride: int | None, task: Task) -> None:
    """Raises BadOption for a stride that a user gave in a task whose networks would not follow it."""
    why_not = task_of(task).networks.no_stride
    if output_stride is not None and why_not:
        choosing = [name for name in task_names() if not task_of(name).networks.no_stride]
        raise BadOption(
            f"--output-stride {output_stride} for {task}: {why_not}",
            where=f"--output-stride {output_stride}",
            fix=f"leave --output-stride out; it dilates the networks of {', '.join(choosing)}",
        )


def rebuild(config: NetworkConfig) -> Network:
    """A run folder's network, weights still random. A custom factory is imported by its name and called."""
    if config.members:
        by_hand = member_taps(config.taps, list(config.members))
        members = {
            label: rebuild(replace(member, taps=by_hand[label])) for label, member in config.members.items()
        }
        return Ensemble(config.name, members, mean=config.mean)
    parsed = parse_name(config.name, task=config.task)
    assembly = _assemble(parsed, config.task, config.num_classes, config.output_stride, config.aux)
    if assembly.grid != config.grid:
        raise BadOption(
            f"{config.name} now has another grid than its record says: {assembly.grid}, then {config.grid}",
            where="network configuration",
            fix="take the version of the network that was trained, or train the run again",
        )
    return Network(config, assembly, trained_head=False)


def check_buildable(text: str, *, task: Task, where: str) -> None:
    """Raises BadOption for a name that no library has a network for, which `check_name` cannot know. Builds
    nothing and runs no code of the user's; loads timm where the name is of it, which takes a second."""
    name = parse_name(text, task=task, where=where)
    if name.family in ENCODED:
        from kdcache.cache.networks.families.timm import check_encoder  # timm loads only when asked for

        check_encoder(name, task, where=where)


def find_weights(
    name: NetworkName, weights: str, num_classes: int, *, fresh_head: bool = False
) -> WeightsFile:
    """A file, a run folder's student, or a pretrained tag, in this order; `fresh_head` as `fit_weights`."""
    named = named_file(weights)
    if named is not None:
        return read_weights(student_weights(named.path) if named.path.is_dir() else named.path, named.key)
    from kdcache.cache.networks.files.downloads import (
        download,  # timm and torchvision load only when asked for
    )

    return download(name, weights, num_classes, fresh_head=fresh_head)


def _try_out(network: Network, role: Role) -> None:
    """One pass over a few pixels with every tap: finds networks of one input size and useless taps."""
    try:
        network.try_out()
    except KdError:
        raise
    except Exception as failure:  # whatever a foreign module raises for a size it does not take
        fix = "give the module an attribute input_size = (height, width) when it takes one size only"
        if task_of(network.task).networks.padded:
            fix = f"take a convolutional network; sides are padded to multiples of {network.pad_multiple}"
        raise BadOption(
            f"{network.name} does not take images of any size: {failure}", where=f"--{role}", fix=fix
        ) from failure


def _num_classes(name: NetworkName, num_classes: int | None, role: Role, task: Task) -> int:
    rules = task_of(task).networks
    if name.family in rules.features_only:
        return 0
    if num_classes is not None:
        return num_classes
    if name.family == TIMM:
        from kdcache.cache.networks.families.timm import default_classes  # timm takes a second to load

        return default_classes(name)
    if name.family == TORCHVISION:
        return TORCHVISION_NETWORKS[name.body].num_classes
    if name.family == CUSTOM:
        return 0  # the factory knows
    raise BadOption(
        f"{name} needs the number of classes",
        where=f"--{role}",
        fix=f"name the data: --data {rules.example_data}:DIR",
    )


def _assemble(name: NetworkName, task: Task, num_classes: int, output_stride: int, aux: bool) -> Assembly:
    """By the assembler of the family; the libraries behind it load only here."""
    assemble: Assemble = load(task_of(task).networks.families[name.family])
    return assemble(name, num_classes=num_classes, output_stride=output_stride, aux=aux, task=task)
