"""Hinton distillation: match tempered class distributions, of images or of pixels.

    cirkd         T^2 * mean over rows (images, or pixels at the logits' own size) of KL(p_T || p_S)
    repdistiller  the same formula; on classification with T 4, weight 0.9 and 0.1 of the task loss
    skds          cross-entropy instead of KL, summed over the images, no T^2
    ifvd          KL divided by the classes too, no T^2
    okddip        classification: T * mean over images of KL, and the cross-entropy at temperature T in place
                  of the task loss (the classic distillation of DefangChen/OKDDip-AAAI2020)
p = softmax(z / T). Pixels with an ignored label count. Segmentation: cirkd, T 1, weight 1; skds and ifvd have
weight 10, ifvd also `upsample=8` in one script. The okddip repository takes T 3.
Hinton et al. 2015, https://arxiv.org/abs/1503.02531.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from torch import Tensor
from torch.nn import functional

from kdcache.cache.spec import BadOption, Need
from kdcache.cache.tasks.table import CLASSIFICATION, DETECTION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Weighted
from kdcache.losses.formulas.divergence import pixel_kl
from kdcache.losses.formulas.scores import NO_SOFTMAX, mean_kl
from kdcache.losses.formulas.shapes import check_same_channels
from kdcache.losses.options import About, Count, NotNegative, OptionValue, Positive
from kdcache.losses.step_inputs import StepInputs, plain_rows
from kdcache.losses.supervised.classification import classification_ce

Form = Literal["cirkd", "skds", "ifvd", "repdistiller", "okddip"]


class KD(LossTerm):
    """Rows of quarter turns beyond the plain one do not count. Defined per micro batch: form skds sums
    over its images.
    """

    method = Method(
        title="Knowledge distillation",
        source="Hinton et al. 2015, https://arxiv.org/abs/1503.02531",
        code="winycg/CIRKD dab64db, HobbitLong/RepDistiller b84f547, SKDS ce208e1, IFVD 950a7a5, "
        "megvii-research/mdistiller a08d46f",
        defaults="classification: T 4, weight 0.9, task 0.1; segmentation: T 1, weight 1",
        published="CIFAR-100 resnet32x4 -> resnet8x4 73.33 (student 72.50); ADE20K 34.88 mIoU (33.91)",
    )
    per_micro_batch = "form skds sums over its images"
    needs = (Need(tap="logits"),)
    student_taps = ("logits",)
    refused = {DETECTION: NO_SOFTMAX}
    task_settings = {CLASSIFICATION: {"form": "repdistiller", "T": 4.0}}

    def __init__(
        self,
        maps: Maps,
        *,
        T: Annotated[Positive, About("temperature, divides the logits")] = 1.0,
        form: Annotated[Form, About("whose reduction")] = "cirkd",
        upsample: Annotated[Count, About("factor by which both maps are enlarged first, bilinear")] = 1,
        hard: Annotated[NotNegative, About("weight of the cross-entropy at T, form okddip alone")] = 1.0,
    ) -> None:
        super().__init__()
        check_same_channels("kd", "logits", maps.student["logits"], maps.teacher["logits"])
        if form == "okddip" and len(maps.student["logits"].shape) > 1:
            raise BadOption(
                "form=okddip is published for classification, and these logits are maps",
                where="loss term 'kd'",
                fix="take kd(form=cirkd), kd(form=skds) or kd(form=ifvd)",
            )
        self.T = T
        self.form: Form = form
        self.upsample = upsample
        self.hard = hard

    @classmethod
    def default_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return {"repdistiller": 0.9, "skds": 10.0, "ifvd": 10.0}.get(str(options["form"]), 1.0)

    @classmethod
    def task_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return {"repdistiller": 0.1, "okddip": 0.0}.get(str(options["form"]), 1.0)

    def forward(self, inputs: StepInputs) -> LossOutput:
        student, teacher = (plain_rows(inputs, side["logits"]) for side in (inputs.student, inputs.teacher))
        if self.form == "okddip":
            hard = classification_ce(student / self.T, plain_rows(inputs, inputs.truth), inputs.mixed)
            soft = self.T * mean_kl(student, teacher, temperature=self.T)
            return {"ce": Weighted(hard, self.hard), "kl": Weighted(soft, 1.0)}
        form = "cirkd" if self.form == "repdistiller" else self.form
        maps = (self._as_map(logits) for logits in (student, teacher))
        return pixel_kl(*maps, temperature=self.T, form=form)

    def _as_map(self, logits: Tensor) -> Tensor:
        """(B, K) as a map of one cell; maps enlarged where asked for."""
        if logits.ndim == 2:
            return logits[:, :, None, None]
        if self.upsample == 1:
            return logits
        return functional.interpolate(logits, scale_factor=self.upsample, mode="bilinear", align_corners=True)
