"""AT: where a map is active, whatever its channels.

    a(f) = unit over the cells of mean_c f_c^2
    L    = sum over taps of mean over images and cells of (a(student) - a(teacher))^2

Zagoruyko and Komodakis 2017, https://arxiv.org/abs/1612.03928; winycg/CIRKD dab64db `losses/at.py`
(segmentation: the neck, weight 10000, kd with T 1 beside it), HobbitLong/RepDistiller b84f547
(classification: stages 1 to 3, weight 1000). No adapter: channels may differ, cells may not. A map of zeros
has the unit 0 and no gradient. Detection: the levels `fpn`; nobody published a weight for them.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from torch import Tensor
from torch.nn import functional

from kdcache.cache.grid import FPN
from kdcache.cache.spec import BadOption, Need, TensorSpec
from kdcache.cache.tasks.table import CLASSIFICATION, DETECTION, SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, tap_list
from kdcache.losses.detection.match import tap_pairs
from kdcache.losses.formulas.levels import SAME, read_shares, shared_sum
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.shapes import check_same_size
from kdcache.losses.options import About, OptionValue
from kdcache.losses.step_inputs import StepInputs, plain_rows

REDUCTION = "kdcache.losses.features.at:attention_map"


@in_float32
def attention_map(map_BCHW: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 1, H, W): root of the mean square over the channels, all that AT reads of a map.

    The root, because squares leave the range of float16.
    """
    return map_BCHW.square().mean(1, keepdim=True).sqrt()


@in_float32
def attention_distance(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """Mean squared difference of the two unit attention maps; C may differ, and be 1 for `attention_map`."""
    return functional.mse_loss(_attention(student_BCHW), _attention(teacher_BCHW))


def _attention(map_BCHW: Tensor) -> Tensor:
    return functional.normalize(map_BCHW.square().mean(1).flatten(1), dim=1)


class AttentionTransfer(LossTerm):
    """`cache=attention` reads one channel per tap instead of all: a cache 256 times smaller for 256
    channels, that serves no other loss.
    """

    method = Method(
        title="Attention transfer",
        source="Zagoruyko and Komodakis 2017, https://arxiv.org/abs/1612.03928",
        code="winycg/CIRKD dab64db losses/at.py; HobbitLong/RepDistiller b84f547 distiller_zoo/AT.py",
        defaults="segmentation: neck, weight 10000, kd(T=1); classification: stages 1 to 3, weight 1000; "
        "detection: fpn, the weight is ours",
        published="none in the tables of these repositories",
        elsewhere=("retinanet", "fcos", "atss", "gfl"),
    )
    tasks = (SEGMENTATION, CLASSIFICATION, DETECTION)
    companions = {"kd": {"weight": 1.0}}
    task_settings = {
        CLASSIFICATION: {"taps": "stage1/stage2/stage3", "weight": 1000.0, "kd": 0.0},
        DETECTION: {"taps": FPN, "kd": 0.0},
    }
    published_weight = 10000.0

    def __init__(
        self,
        maps: Maps,
        *,
        taps: Annotated[str, About("maps of both sides, separated by /")] = "neck",
        cache: Annotated[
            Literal["map", "attention"], About("what is read of the teacher: whole maps, or their attention")
        ] = "map",
        shares: Annotated[str, About("factor of each map, separated by /, or the word same")] = SAME,
    ) -> None:
        super().__init__()
        pairs, self.notes = tap_pairs("at", maps, taps, target=lambda tap: _need(tap, cache).name)
        self.taps, self.targets = zip(*pairs, strict=True)
        self.shares = read_shares("at", shares, len(pairs))
        for tap, target in zip(self.taps, self.targets, strict=True):
            _check_map(tap, maps.student[tap])
            check_same_size("at", tap, maps.student[tap], maps.teacher[target])

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        taps = tap_list(options["taps"])
        return Reads(taps, tuple(_need(tap, options["cache"]) for tap in taps))

    def forward(self, inputs: StepInputs) -> Tensor:
        distances = [
            attention_distance(
                plain_rows(inputs, inputs.student[tap]), plain_rows(inputs, inputs.teacher[target])
            )
            for tap, target in zip(self.taps, self.targets, strict=True)
        ]
        return shared_sum(distances, self.shares)


def _need(tap: str, cache: OptionValue) -> Need:
    return Need(tap=tap, reduction=REDUCTION if cache == "attention" else "")


def _check_map(tap: str, spec: TensorSpec) -> None:
    if len(spec.shape) != 3:
        raise BadOption(
            f"tap '{tap}' is a vector of {spec.channels} values, and attention is where a map is active",
            where="loss term 'at'",
            fix="name maps, for example at(taps=stage2/stage3)",
        )
