"""One network with exits on its earlier stages: `exit1.logits`, `exit1.embedding`, ... beside its own taps.

The deployed network is the plain one, exported as always. The exits are exported beside it, as
`exits.safetensors` and `exits.json`: the latter names the weights of the student that they belong to, so
that a reader after a kill in the middle of an export never joins exits to another student.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor, nn

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run import load_run_network
from kdcache.cache.spec import TensorSpec, unknown
from kdcache.trainer.students.contract import SeveralStudents
from kdcache.trainer.students.exit_file import read_exits
from kdcache.trainer.students.exit_heads import Exit, attention_exit, bottleneck_exit

FORMS: dict[str, Callable[..., Exit]] = {"bottleneck": bottleneck_exit, "attention": attention_exit}


class Exits(SeveralStudents):
    """`count` exits on stage1 .. stage<count> of `network`; exit 1 is the shallowest."""

    def __init__(self, network: Network, *, count: int, form: str = "") -> None:
        super().__init__()
        self.form = form or "bottleneck"
        if self.form not in FORMS:
            raise unknown("form of exits", self.form, FORMS, where="exits of a student")
        stages = _stages(network, count)
        width = network.tap_specs(("embedding",), *network.probe_px)["embedding"].channels
        make = FORMS[self.form]
        self.network = network
        self.exits = nn.ModuleList(
            [make(stages[i:], width=width, num_classes=network.num_classes) for i in range(count)]
        )
        self._width = width

    @property
    def deployed(self) -> Network:
        return self.network

    @property
    def taps(self) -> tuple[str, ...]:
        numbers = range(1, len(self.exits) + 1)
        return (*self.network.taps, *(f"exit{n}.{kind}" for n in numbers for kind in ("embedding", "logits")))

    def forward(self, images_BHWC: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        self.check_names(taps)
        numbers = sorted({_number(tap) for tap in taps} - {0})
        own = [tap for tap in taps if not _number(tap)]
        values = self.network(images_BHWC, tuple(dict.fromkeys((*own, *(f"stage{n}" for n in numbers)))))
        answers = {tap: values[tap] for tap in own}
        for number in numbers:
            said = self.exits[number - 1](values[f"stage{number}"])
            answers |= {f"exit{number}.{kind}": value for kind, value in said.items()}
        return {tap: answers[tap] for tap in taps}

    def tap_specs(self, taps: Sequence[str], height: int, width: int) -> dict[str, TensorSpec]:
        self.check_names(taps)
        own = self.network.tap_specs([tap for tap in taps if not _number(tap)], height, width)
        sizes = {"embedding": self._width, "logits": self.network.num_classes}
        return {
            tap: TensorSpec((sizes[tap.partition(".")[2]],), 0) if _number(tap) else own[tap] for tap in taps
        }


class OneExit(nn.Module):
    """A network cut short: forward(images_BHWC, taps) with the taps 'embedding' and 'logits' of one exit."""

    taps = ("embedding", "logits")

    def __init__(self, student: Exits, number: int) -> None:
        super().__init__()
        self.student = student
        self.number = number
        self.name = f"exit {number} of {student.deployed.name}"

    def forward(self, images_BHWC: Tensor, taps: Sequence[str] = ("logits",)) -> dict[str, Tensor]:
        answers = self.student(images_BHWC, [f"exit{self.number}.{tap}" for tap in taps])
        return {tap: answers[f"exit{self.number}.{tap}"] for tap in taps}


def load_exit(run_dir: Path, number: int) -> OneExit:
    """Exit `number` (1 = shallowest) of a run's best student, in evaluation mode.

    Raises Missing for a run without a student or without exits, BadOption for a number that does not exist,
    BadWeights for exits that are not those of the run's student.
    """
    network = load_run_network(run_dir)
    form, count, state = read_exits(run_dir, network)
    if not 1 <= number <= count:
        raise BadOption(
            f"run '{run_dir.name}' has exits 1 to {count}, and no exit {number}",
            where=f"--exit {number}",
            fix=f"give a number from 1 (the shallowest) to {count}, or leave --exit out: the whole network",
        )
    student = Exits(network, count=count, form=form)
    student.exits.load_state_dict(state)
    return OneExit(student, number).eval()


def _stages(network: Network, count: int) -> list[TensorSpec]:
    """Stage 1 to the last one. Raises BadOption when an exit would sit on the last stage or on none."""
    names = [f"stage{n}" for n in range(1, len(network.taps) + 1) if f"stage{n}" in network.taps]
    if len(names) <= count or "embedding" not in network.taps:
        raise BadOption(
            f"{count} exits need {count + 1} stages and an embedding; {network.name} has "
            f"{', '.join(network.taps)}",
            where=f"--student {network.name}",
            fix="take a network of four stages, such as r18 or timm:resnet50, or ask for fewer exits",
        )
    specs = network.tap_specs(names, *network.probe_px)
    return [specs[name] for name in names]


def _number(tap: str) -> int:
    """3 for 'exit3.logits', 0 for a tap of the network."""
    owner, dot, _ = tap.partition(".")
    digits = owner.removeprefix("exit")
    return int(digits) if dot and owner.startswith("exit") and digits.isdigit() else 0
