"""FitNets: regress a middle layer of the teacher (the hint) from one of the student (the guided layer).

    cirkd         mean of (conv1x1(student) - teacher)^2, no bias; weight 10, kd with T 1 beside it
    repdistiller  mean of (relu(bn(conv(student))) - teacher)^2, convolution chosen by the sizes; weight 100
    lenscloth     mean of (conv1x1(student) - teacher)^2 with random weights that are never trained
    original      two stages. hint: H_teacher / 2 * mean of (relu(conv(student)) - teacher)^2, which is the
                  sum over the map's rows that the published array layout takes (vectors: over the features),
                  and trains nothing behind the guided layer. kd: mean over rows of -p_teacher log p_student
                  at T 3, no T^2, weight 4, in a run with `--init RUN` of the first stage; it falls to 1
                  linearly over 400 epochs (`decay`, `decay_to`).
Romero et al. 2015, https://arxiv.org/abs/1412.6550; adri-romsor/FitNets 0f633b1, winycg/CIRKD dab64db,
HobbitLong/RepDistiller b84f547, lenscloth/RKD 0a6c3c0. Several taps are summed. Detection: form
cirkd on the levels `fpn`; nobody published a weight for them.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from torch import Tensor, nn
from torch.nn import functional

from kdcache.cache.grid import FPN
from kdcache.cache.spec import BadOption, Need
from kdcache.cache.tasks.table import CLASSIFICATION, DETECTION, SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, tap_list
from kdcache.losses.detection.match import tap_pairs as level_pairs
from kdcache.losses.features.regressors import Pair, Regressor, ValidRegressor, adapter, random_adapter
from kdcache.losses.formulas.levels import read_shares, shared_sum
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.rows import SAME, as_map, tap_pairs
from kdcache.losses.formulas.shapes import check_same_channels
from kdcache.losses.options import About, OptionValue, Positive
from kdcache.losses.step_inputs import StepInputs, plain_rows

Form = Literal["cirkd", "repdistiller", "lenscloth", "original"]
WEIGHTS: Mapping[str, float] = {"cirkd": 10.0, "repdistiller": 100.0, "lenscloth": 1.0, "original": 1.0}


@in_float32
def hint_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two maps or vectors of one shape."""
    return functional.mse_loss(student, teacher)


@in_float32
def hint_cost(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over the other axes of the sum over a map's rows, or a vector's features, of half the squared
    difference.
    """
    summed_axis = 2 if student.ndim == 4 else 1
    return (student - teacher).square().sum(summed_axis).mean() / 2


@in_float32
def tempered_cross_entropy(student_BK: Tensor, teacher_BK: Tensor, *, temperature: float) -> Tensor:
    """Mean over rows (of maps: cells) of -sum_k p_teacher log p_student, p = softmax(z / T). No T^2."""
    posterior = functional.softmax(teacher_BK / temperature, dim=1)
    return -(posterior * functional.log_softmax(student_BK / temperature, dim=1)).sum(1).mean()


class FitNet(LossTerm):
    """The first stage of `original` reads no logits of the student, so what lies behind the guided
    layer has no gradient and stays. Defined per micro batch: form repdistiller normalises by batch
    statistics.
    """

    method = Method(
        title="FitNets",
        source="Romero et al. 2015, https://arxiv.org/abs/1412.6550",
        code="winycg/CIRKD dab64db; HobbitLong/RepDistiller b84f547; adri-romsor/FitNets 0f633b1; "
        "lenscloth/RKD 0a6c3c0",
        modules="a regressor per tap (form=lenscloth: random, never trained)",
        defaults="segmentation: neck, cirkd, weight 10, kd(T=1); classification: stage2, repdistiller, "
        "weight 100; original: stage=hint, then --init RUN and stage=kd (weight 4, to 1 in 400 epochs); "
        "detection: fpn, cirkd, the weight is ours",
        published="CIFAR-100 resnet32x4 -> resnet8x4 73.50 (student 72.50)",
        elsewhere=("retinanet", "fcos", "atss", "gfl"),
    )
    per_micro_batch = "form repdistiller normalises by batch statistics"
    same_size = False  # the regressors bridge sizes, or refuse them
    tasks = (SEGMENTATION, CLASSIFICATION, DETECTION)
    companions = {"kd": {"weight": 1.0}}
    task_settings = {
        CLASSIFICATION: {"taps": "stage2", "form": "repdistiller", "kd": 0.0},
        DETECTION: {"taps": FPN, "kd": 0.0},
    }

    def __init__(
        self,
        maps: Maps,
        *,
        taps: Annotated[str, About("guided maps of the student, separated by /")] = "neck",
        hints: Annotated[str, About("maps of the teacher, one per guided map, or the word same")] = SAME,
        form: Annotated[Form, About("whose regressor and reduction")] = "cirkd",
        stage: Annotated[Literal["hint", "kd"], About("which of the two stages of form=original")] = "hint",
        relu: Annotated[bool, About("form=repdistiller: ReLU at the end of the regressor")] = True,
        T: Annotated[Positive, About("stage=kd: temperature, divides the logits")] = 3.0,
        shares: Annotated[str, About("factor of each map, separated by /, or the word same")] = SAME,
    ) -> None:
        super().__init__()
        _check_stage(form, stage, maps)
        self.form = form
        self.T = T
        self.stage = stage
        if hints == SAME:
            pairs, self.notes = level_pairs("fitnet", maps, taps)
            self.taps, self.hints = zip(*pairs, strict=True)
        else:
            self.taps, self.hints = tap_pairs("fitnet", taps, hints)
        self.shares = read_shares("fitnet", shares, len(self.taps))
        self.regressors = nn.ModuleList()
        if stage == "kd":
            check_same_channels("fitnet", "logits", maps.student["logits"], maps.teacher["logits"])
            return
        for tap, hint in zip(self.taps, self.hints, strict=True):
            pair = Pair(tap, maps.student[tap], maps.teacher[hint])
            self.regressors.append(_regressor(pair, form, relu))

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        if options["stage"] == "kd":
            return Reads(("logits",), (Need(tap="logits"),))
        hints = options["taps"] if options["hints"] == SAME else options["hints"]
        return Reads(tap_list(options["taps"]), tuple(Need(tap=hint) for hint in tap_list(hints)))

    @classmethod
    def default_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return 4.0 if options["stage"] == "kd" else WEIGHTS[str(options["form"])]

    @classmethod
    def default_companions(
        cls, options: Mapping[str, OptionValue]
    ) -> Mapping[str, Mapping[str, OptionValue]]:
        """kd beside CIRKD's form alone."""
        return cls.companions if options["form"] == "cirkd" else {}

    @classmethod
    def published_schedule(cls, options: Mapping[str, OptionValue]) -> Mapping[str, float]:
        """From weight 4 to 1 in the second stage of the original, in a line from epoch 0 to 400. (The
        published counter runs from 4 to 400: 0.03 apart at most.)
        """
        second = options["form"] == "original" and options["stage"] == "kd"
        return {"decay": 400.0, "decay_to": 0.25} if second else {}

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return 0.0 if options["form"] == "original" and options["stage"] == "hint" else 1.0

    def forward(self, inputs: StepInputs) -> Tensor:
        if self.stage == "kd":
            logits = (plain_rows(inputs, side["logits"]) for side in (inputs.student, inputs.teacher))
            return tempered_cross_entropy(*logits, temperature=self.T)
        measure = hint_cost if self.form == "original" else hint_distance
        distances = []
        for tap, hint, regressor in zip(self.taps, self.hints, self.regressors, strict=True):
            teacher = plain_rows(inputs, inputs.teacher[hint])
            regressed: Tensor = regressor(as_map(plain_rows(inputs, inputs.student[tap])))
            distances.append(measure(regressed.reshape(teacher.shape), teacher))
        return shared_sum(distances, self.shares)


def _regressor(pair: Pair, form: Form, relu: bool) -> nn.Module:
    if form == "cirkd":
        return adapter(pair)
    if form == "lenscloth":
        return random_adapter(pair)
    return Regressor(pair, relu=relu) if form == "repdistiller" else ValidRegressor(pair)


def _check_stage(form: str, stage: str, maps: Maps) -> None:
    if stage == "kd" and form != "original":
        raise BadOption(
            f"form={form} has one stage, and stage={stage} is the second of form=original",
            where="loss term 'fitnet'",
            fix="leave stage out, or write fitnet(form=original,stage=kd)",
        )
    if form == "original" and stage == "hint" and "logits" in maps.student:
        raise BadOption(
            "the first stage trains the student up to the guided map, and another term reads its logits",
            where="loss term 'fitnet', form=original,stage=hint",
            fix="leave the other terms out, also the companion: fitnet(form=original,kd=0)",
        )
