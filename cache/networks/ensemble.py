"""Several teachers as one network: every member's taps side by side, and, when asked for, their mean logits.

Tap 'stage4' of member 'r50' is 'r50.stage4'. The mean is taken before softmax (Hinton et al. 2015, arXiv
1503.02531, leave the choice open; the mean of logits is the geometric mean of the answers).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.network_config import NetworkConfig
from kdcache.cache.spec import TensorSpec

MEAN = "mean"  # the place of the mean logits
LOGITS = "logits"
Value = TypeVar("Value")


def _inside(taps: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Places of the members' taps, by label, as places of the whole."""
    places = ((label, tap, path) for label, own in taps.items() for tap, path in own.items())
    return {f"{label}.{tap}": f"{label}.model.{path}" for label, tap, path in places}


class Ensemble(Network):
    """Members by label, in order. Reads like a Network; it has no pixels' mean and std of its own."""

    def __init__(self, name: str, members: Mapping[str, Network], *, mean: bool = False) -> None:
        nn.Module.__init__(self)
        networks = list(members.values())
        _check_alike(name, members)
        self.name = name
        self.model = nn.ModuleDict(dict(members))
        self.num_classes = max(network.num_classes for network in networks)
        self.output_stride = max(network.output_stride for network in networks)
        self.pad_multiple = max(network.pad_multiple for network in networks)
        self.trained_head = all(network.trained_head for network in networks)
        self.weights_peeled = ()  # the members say theirs
        self.input_px = networks[0].input_px
        self.fixed_px = next((network.fixed_px for network in networks if network.fixed_px), None)
        self.probe_px = self.fixed_px or networks[0].probe_px
        self.heads, self.backbone_path, self.backbone_extras = (), "", frozenset()
        # Those of the members are their own.
        self.grid, self.adapt, self.names_in, self.left_out = None, None, None, None
        self.resting = frozenset()
        self.class_names, self.notes = (), ()
        self.taps = _inside({label: network.taps for label, network in members.items()})
        by_hand = _inside({label: network.config.taps for label, network in members.items()})
        if mean:
            self.taps[LOGITS] = MEAN
            _check_mean(name, members)
        self.config = NetworkConfig(
            name=name,
            num_classes=self.num_classes,
            output_stride=self.output_stride,
            task=networks[0].task,
            # Places named by hand stand in one spot, as a plain network has them.
            members={label: replace(network.config, taps={}) for label, network in members.items()},
            taps=by_hand,
            mean=mean,
        )

    @property
    def memory_format(self) -> str:  # type: ignore[override]
        """That of every member, 'a+b' where they differ."""
        return "+".join(dict.fromkeys(member.memory_format for member in self.members.values()))

    def lay_out(self, memory_format: str) -> None:
        if memory_format != self.memory_format:
            for member in self.members.values():
                member.lay_out(memory_format)

    @property
    def members(self) -> dict[str, Network]:
        return {label: member for label, member in self.model.named_children() if isinstance(member, Network)}

    def forward(self, images_BHWC: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        """As Network.forward; a member none of whose taps is asked for does not run."""
        return self._gather(taps, lambda network, own: _run(network, images_BHWC, own), _mean)

    def read_normalised(self, pixels_BCHW: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        """As Network.read_normalised, for members of one normalisation."""
        statistics = {
            tuple(torch.cat((network.normalise.mean, network.normalise.std)).tolist())
            for network in self.members.values()
        }
        if len(statistics) > 1:
            raise BadOption(
                f"the members of {self.name} normalise pixels in {len(statistics)} ways",
                where="normalised input of an ensemble",
                fix="name one teacher, or members with the same mean and std",
            )
        return self._gather(taps, lambda network, own: network.read_normalised(pixels_BCHW, own), _mean)

    def tap_specs(self, taps: Sequence[str], height: int, width: int) -> dict[str, TensorSpec]:
        def same(specs: Sequence[TensorSpec]) -> TensorSpec:
            return specs[0]

        return self._gather(taps, lambda network, own: network.tap_specs(own, height, width), same)

    def classifier_weight(self) -> None:
        """None: there is one per member."""

    def _gather(
        self,
        taps: Sequence[str],
        read: Callable[[Network, list[str]], dict[str, Value]],
        unite: Callable[[Sequence[Value]], Value],
    ) -> dict[str, Value]:
        self._check_names(taps)
        wanted = [tap for tap in taps if tap != LOGITS]
        values: dict[str, Value] = {}
        logits = []
        for label, member in self.members.items():
            own = [tap.removeprefix(f"{label}.") for tap in wanted if tap.startswith(f"{label}.")]
            asked = list(dict.fromkeys([*own, *((LOGITS,) if LOGITS in taps else ())]))
            answers = read(member, asked) if asked else {}
            values |= {f"{label}.{tap}": answers[tap] for tap in own}
            logits += [answers[LOGITS]] if LOGITS in taps else []
        if logits:
            values[LOGITS] = unite(logits)
        return {tap: values[tap] for tap in taps}


def member_labels(names: Sequence[str]) -> list[str]:
    """Names of runs or networks as one word each, none twice: 'timm:resnet18.a1_in1k' is
    'timm_resnet18_a1_in1k'."""
    labels: list[str] = []
    container = nn.ModuleDict()
    for name in names:
        word = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "teacher"
        # torch refuses modules named like methods ('items').
        word = f"{word}_" if hasattr(container, word) else word
        count, label = 1, word
        while label in labels:
            count += 1
            label = f"{word}_{count}"
        labels.append(label)
    return labels


def member_taps(taps: Mapping[str, str], labels: Sequence[str]) -> dict[str, dict[str, str]]:
    """Places by hand, 'label.tap' -> 'label.model.path', as each member's own. Raises BadOption for a tap
    of no member."""
    split: dict[str, dict[str, str]] = {label: {} for label in labels}
    for tap, place in taps.items():
        if (tap, place) == (LOGITS, MEAN):
            continue
        label, _, own = tap.partition(".")
        if label not in split or not own:
            raise BadOption(
                f"tap '{tap}' is of no member of the ensemble",
                where=f"--tap {tap}@{place}",
                fix=f"write MEMBER.TAP@PATH; members: {', '.join(labels)}",
            )
        split[label][own] = place.removeprefix(f"{label}.model.")
    return split


def _run(network: Network, images_BHWC: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
    values: dict[str, Tensor] = network(images_BHWC, taps)
    return values


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean(0)


def _check_alike(name: str, members: Mapping[str, Network]) -> None:
    tasks = {network.task for network in members.values()}
    classes = {network.num_classes for network in members.values()} - {0}  # 0: features only
    if len(tasks) > 1 or len(classes) > 1:
        each = ", ".join(
            f"{label} {network.task} of {network.num_classes} classes" for label, network in members.items()
        )
        raise BadOption(
            f"the members of an ensemble answer different questions: {each}",
            where=f"--teacher {name}",
            fix="name teachers that were trained for one task on one set of classes",
        )


def _check_mean(name: str, members: Mapping[str, Network]) -> None:
    mute = [label for label, network in members.items() if LOGITS not in network.taps]
    specs = (
        []
        if mute
        else [network.tap_specs([LOGITS], *network.probe_px)[LOGITS] for network in members.values()]
    )
    if mute or len({(spec.channels, spec.stride) for spec in specs}) > 1:
        why = f"{', '.join(mute)} has none" if mute else f"sizes {', '.join(str(s.shape) for s in specs)}"
        raise BadOption(
            f"the logits of these teachers have no mean: {why}",
            where=f"--teacher {name} --mean",
            fix="leave --mean out, or name teachers of one output stride",
        )
