"""Channel-wise distillation: each channel becomes a distribution over the map's cells.

    L = tau^2 / (B C) * sum over images and channels of KL(softmax_HW(t / tau) || softmax_HW(s / tau))

Shu et al. 2021, https://arxiv.org/abs/2011.13256; TorchDistiller 78bac7c, mmrazor 90c7af1, CIRKD dab64db.
Default: logits, tau 4, weight 3. Several maps are summed. On features (`taps=...`) a 1x1 convolution without
bias adapts the channels.
CIRKD divides there by the student's channels before the adapter (`divisor=student`, its weight 50); the
formula's own divisor takes 100, which is the same for its 256 teacher and 128 student channels. Detection:
class maps of all levels, tau 1, weight 10 (mmrazor, gfl); on `fpn` nobody published a weight.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from torch import Tensor

from kdcache.cache.grid import CLS
from kdcache.cache.tasks.table import DETECTION, SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, same_taps
from kdcache.losses.detection.match import TapPair, tap_pairs
from kdcache.losses.formulas.adapters import align
from kdcache.losses.formulas.divergence import channel_kl, channel_mean_square, pixel_kl
from kdcache.losses.formulas.levels import SAME, at_level, one_or_list, read_shares, shared_sum
from kdcache.losses.formulas.shapes import check_same_channels
from kdcache.losses.options import About, OptionValue, Positive
from kdcache.losses.step_inputs import StepInputs


class ChannelWise(LossTerm):
    """`norm`: channel (the method), spatial (softmax over channels, mean over cells), channel_mean (squared
    difference of spatial means). `divisor`: whose channels are counted in C."""

    method = Method(
        title="Channel-wise distillation",
        source="Shu et al. 2021, https://arxiv.org/abs/2011.13256",
        code="irfanICMLL/TorchDistiller 78bac7c utils/criterion.py; open-mmlab/mmrazor 90c7af1; "
        "winycg/CIRKD dab64db losses/cwd.py",
        modules="on features with other channels a 1x1 convolution",
        defaults="logits: tau 4, weight 3 (mmrazor: tau 1, weight 5); features: 50 with CIRKD's divisor, 100 "
        "with the formula's; detection: cls, tau 1, weight 10 (mmrazor, gfl)",
        published="Cityscapes mIoU PSPNet-R18 75.02 to 75.90 (TorchDistiller), 75.54 (mmrazor); "
        "CIRKD's table: DeepLabV3-R18 75.55 (74.21), MBV2 74.66 (73.12)",
        detectors=("gfl",),
        elsewhere=("retinanet", "fcos", "atss"),
    )
    tasks = (SEGMENTATION, DETECTION)
    aliases = {"tap": "taps"}
    task_settings = {DETECTION: {"taps": CLS, "tau": 1.0, "weight": 10.0}}
    published_weight = 3.0

    def __init__(
        self,
        maps: Maps,
        *,
        taps: Annotated[str, About("maps of both networks, separated by /")] = "logits",
        tau: Annotated[Positive, About("temperature, divides the maps before the softmax over cells")] = 4.0,
        norm: Annotated[
            Literal["channel", "spatial", "channel_mean"], About("what becomes a distribution")
        ] = "channel",
        divisor: Annotated[Literal["teacher", "student"], About("whose channels divide the sum")] = "student",
        shares: Annotated[str, About("factor of each map, separated by /, or the word same")] = SAME,
    ) -> None:
        super().__init__()
        self.pairs, self.notes = tap_pairs("cwd", maps, taps)
        self.shares = read_shares("cwd", shares, len(self.pairs))
        sides = [(maps.student[one.student], maps.teacher[one.teacher]) for one in self.pairs]
        for one, (student, teacher) in zip(self.pairs, sides, strict=True):
            if one.student == "logits":
                check_same_channels("cwd", one.student, student, teacher)
        self.tau = tau
        self.norm = norm
        self.num_channels = [pair[divisor == "teacher"].channels for pair in sides]
        self.align = one_or_list(
            [align(student.channels, teacher.channels, bias=False) for student, teacher in sides]
        )

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        return same_taps(options)

    @classmethod
    def default_weight(cls, options: Mapping[str, OptionValue]) -> float:
        if options["taps"] == "logits":
            return cls.published_weight
        return 50.0 if options["divisor"] == "student" else 100.0

    def forward(self, inputs: StepInputs) -> Tensor:
        return shared_sum([self._level(*one, inputs) for one in enumerate(self.pairs)], self.shares)

    def _level(self, index: int, pair: TapPair, inputs: StepInputs) -> Tensor:
        student: Tensor = at_level(self.align, index)(inputs.student[pair.student])
        teacher = inputs.teacher[pair.teacher]
        if self.norm == "spatial":
            return pixel_kl(student, teacher, temperature=self.tau)
        if self.norm == "channel_mean":
            return channel_mean_square(student, teacher)
        return channel_kl(student, teacher, temperature=self.tau, num_channels=self.num_channels[index])
