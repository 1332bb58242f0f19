"""--teacher X: a run named X first, then a network named X; 'a,b,c' is an ensemble. The choice is a sentence
to print.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.build import NONE, build_network
from kdcache.cache.networks.ensemble import Ensemble, member_labels, member_taps
from kdcache.cache.networks.files.weights_file import named_file
from kdcache.cache.networks.names import (
    CIFAR,
    DETECTORS,
    HEADS,
    TIMM,
    TORCHVISION,
    TORCHVISION_NETWORKS,
    NetworkName,
    first_task_with,
    parse_name,
    split_names,
)
from kdcache.cache.networks.names import member_names as member_names
from kdcache.cache.networks.names import run_folder as run_folder
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run import load_run_network
from kdcache.cache.networks.run_card import (
    DataClasses,
    RunCard,
    classes_fix,
    other_classes,
    read_run_card,
)
from kdcache.cache.networks.weights import WeightsOfOtherClasses
from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import task_of
from kdcache.cache.trust import current_command
from kdcache.cache.visible import shell_word


def resolve_teacher(
    name: str,
    runs_dir: Path,
    *,
    task: Task | None = None,
    num_classes: int | None,
    output_stride: int | None = None,
    weights: str | None = None,
    taps: Mapping[str, str] | None = None,
    mean: bool = False,
    classes: DataClasses | None = None,
) -> tuple[Network, RunCard | None, str]:
    """The teacher, the card of its run (None for a plain network; an ensemble's first), and the sentence that
    says which was taken.

    `name` may also be the path of a run folder. `task` None is the run's own, for a plain network the first
    one that has its name. `mean` adds the mean logits of an ensemble, whose `weights` are one entry per
    member. `classes` are those of the data, which the teacher's are compared with. One of other classes is
    taken where its features alone can teach (`NetworkRules.other_classes`): its configuration then says so.
    Raises BadOption for an unknown name, for any other teacher of other classes and for a network whose
    classifier nobody trained: its logits would be noise.
    """
    run_dir = run_folder(name, runs_dir)
    if run_dir is None and len(split_names(name)) > 1:
        return _ensemble(name, runs_dir, task, num_classes, output_stride, weights, taps or {}, mean, classes)
    if mean:
        raise _no_mean(name)
    if run_dir is not None:
        return _from_run(run_dir, task, num_classes, output_stride, weights, taps, classes)
    task = task or first_task_with(name)
    parsed = parse_name(name, where="--teacher (no run has this name)", task=task)
    weights = _teaching_weights(name, parsed, task, weights)
    build = partial(build_network, name, task=task, output_stride=output_stride, weights=weights, taps=taps)
    network = _of_any_classes(build, parsed, task, num_classes, weights)
    _say_classes(network, network.class_names, classes)
    if ("logits" in network.taps or network.heads) and not network.trained_head:
        raise _untrained(name, parsed, network.task)
    origin = f" with weights {weights}{peeled(network)}" if weights else ""
    return network, None, f"teacher '{name}' is the network {network.name}{origin} (no run has this name)"


def _of_any_classes(
    build: Callable[..., Network],
    parsed: NetworkName,
    task: Task,
    num_classes: int | None,
    weights: str | None,
) -> Network:
    """The network for the data's classes, or for those of its weights where these can teach too."""
    if task_of(task).networks.other_classes is None:
        return build(num_classes=num_classes)
    own = TORCHVISION_NETWORKS.get(parsed.body) if parsed.family == TORCHVISION else None
    if own is not None and weights == own.tag:
        return build(num_classes=own.num_classes)
    try:
        return build(num_classes=num_classes)
    except WeightsOfOtherClasses as error:
        return build(num_classes=error.count)


def _say_classes(network: Network, names: Sequence[str], classes: DataClasses | None) -> None:
    """Keep what a teacher tells apart where it is not what the data have."""
    if classes and names and tuple(names) != tuple(classes.names):
        network.config = replace(network.config, class_names=tuple(names))


def _ensemble(
    name: str,
    runs_dir: Path,
    task: Task | None,
    num_classes: int | None,
    output_stride: int | None,
    weights: str | None,
    taps: Mapping[str, str],
    mean: bool,
    classes: DataClasses | None,
) -> tuple[Network, RunCard | None, str]:
    names = member_names(name, runs_dir)
    each = weights_of_each(name, len(names), weights)
    # A run's label is its folder's name: the path of it differs from machine to machine.
    folders = [run_folder(member, runs_dir) for member in names]
    labels = member_labels([f.name if f else n for f, n in zip(folders, names, strict=True)])
    _check_twice(name, [str(f) if f else n for f, n in zip(folders, names, strict=True)], each)
    by_hand = member_taps(taps, labels)
    members, cards, lines = {}, [], []
    for label, member, file in zip(labels, names, each, strict=True):
        network, card, line = resolve_teacher(
            member,
            runs_dir,
            task=task,
            num_classes=num_classes,
            output_stride=output_stride,
            weights=file,
            taps=by_hand[label] or None,
            classes=classes,
        )
        members[label] = network
        cards += [card] if card else []
        lines.append(line)
    answer = " with their mean logits" if mean else ""
    said = f"teacher '{name}' is an ensemble of {len(names)}{answer}: {'; '.join(lines)}"
    return Ensemble(",".join(labels), members, mean=mean), cards[0] if cards else None, said


def weights_of_each(name: str, count: int, weights: str | None) -> list[str | None]:
    """The entries of --weights, one for each of `count` members; None where a member has none."""
    each = [entry.strip() or None for entry in (weights or "," * (count - 1)).split(",")]
    if len(each) != count:
        raise BadOption(
            f"{len(each)} weights for the {count} members of '{name}'",
            where=f"--weights {weights}",
            fix="give one entry per member in the same order, empty for runs: --weights ,FILE,imagenet",
        )
    return each


def _check_twice(name: str, names: list[str], weights: list[str | None]) -> None:
    pairs = list(zip(names, weights, strict=True))
    twice = next((pair for index, pair in enumerate(pairs) if pair in pairs[:index]), None)
    if twice is not None:
        raise BadOption(
            f"'{twice[0]}' is named twice with the same weights in the ensemble '{name}'",
            where=f"--teacher {name}",
            fix="name every teacher once, or give each weights of its own: --weights FILE,FILE",
        )


def _from_run(
    run_dir: Path,
    task: Task | None,
    num_classes: int | None,
    output_stride: int | None,
    weights: str | None,
    taps: Mapping[str, str] | None,
    classes: DataClasses | None,
) -> tuple[Network, RunCard, str]:
    if weights is not None:
        raise BadOption(
            f"run '{run_dir.name}' has its own weights, and --weights {weights} was given too",
            where="--teacher and --weights",
            fix="leave --weights out, or name the network instead of the run (deeplabv3:ENCODER)",
        )
    card = read_run_card(run_dir)
    if task not in (None, card.task):
        raise BadOption(
            f"run '{run_dir.name}' was trained for {card.task}, the data are for {task}",
            where="--teacher and --data",
            fix=f"use the data of the run: --data {card.data}",
        )
    if task_of(card.task).networks.other_classes is None:
        _check_classes(run_dir.name, card, num_classes, classes)
    network = load_run_network(run_dir, output_stride=output_stride, taps=taps)
    _say_classes(network, card.class_names, classes)
    choice = f"teacher '{run_dir.name}' is the run {run_dir} ({network.name}, trained on {card.data})"
    if network.output_stride != card.output_stride:
        choice += f", at output stride {network.output_stride} instead of {card.output_stride}"
    return network, card, choice


def _check_classes(run: str, card: RunCard, num_classes: int | None, classes: DataClasses | None) -> None:
    """Raises BadOption where the run answers for other classes: its answers would be taken for theirs."""
    counts = f"run '{run}' tells {card.config.num_classes} classes apart, the data has {num_classes}"
    other = num_classes not in (None, card.config.num_classes)
    differ = other_classes(card.class_names, classes.names) if classes else ""
    if other or differ:
        raise BadOption(
            ": ".join(part for part in (counts, differ) if part),
            where="--teacher and --data",
            fix=classes_fix(run, card, classes.spec if classes else ""),
        )


def _teaching_weights(name: str, parsed: NetworkName, task: Task, weights: str | None) -> str | None:
    """The weights a plain network teaches with. Raises BadOption where there are none, before anything is
    built: a ResNet-101 costs seconds."""
    if parsed.family in (*HEADS, *DETECTORS) and not _may_hold_head(weights):
        raise _untrained(name, parsed, task)
    if weights is None and parsed.tag and task_of(task).networks.tag_holds_head:
        return parsed.tag
    if parsed.family == TIMM and weights in (None, NONE):
        raise BadOption(
            f"teacher '{name}' would have random weights",
            where="--teacher",
            fix=f"pass {_flag()} imagenet or {_flag()} FILE.safetensors",
        )
    if parsed.family == CIFAR and weights in (None, NONE):
        raise _untrained(name, parsed, task)
    if parsed.family == TORCHVISION and weights is None:
        return TORCHVISION_NETWORKS[parsed.body].tag
    return weights


def _may_hold_head(weights: str | None) -> bool:
    """False for no weights and for pretrained tags, which are of the encoder alone."""
    return weights is not None and named_file(weights) is not None


def peeled(network: Network) -> str:
    """What was taken off the file's tensors, in brackets; '' where it was read as it lies there."""
    return f" ({'; '.join(network.weights_peeled)})" if network.weights_peeled else ""


def _no_mean(name: str) -> BadOption:
    return BadOption(
        f"'{name}' is one teacher, and --mean asks for the mean of several",
        where="--teacher and --mean",
        fix="leave --mean out, or name several: --teacher a,b,c",
    )


def _untrained(name: str, parsed: NetworkName, task: Task) -> BadOption:
    run, rules = re.sub(r"[^A-Za-z0-9_.]+", "-", name), task_of(task).networks
    return BadOption(
        f"teacher '{name}' is the network {parsed}, and nobody has trained its {rules.head}",
        where="--teacher (no run has this name)",
        fix=f"pass trained ones with {_flag()} FILE; or train it: "
        f"kdtrain --loss none --student {shell_word(name)} --run {run} --data {rules.example_data}:DIR",
    )


def _flag() -> str:
    """The option that names a teacher's weights in the command that was typed."""
    return "--teacher-weights" if current_command()[:1] == ("kdtrain",) else "--weights"
