"""RKD: distances and angles between the embeddings of a batch, the sum of `rkd-d` and `rkd-a`.

    classification   25 * L_D + 50 * L_A on pooled features, weight 1 (HobbitLong/RepDistiller b84f547)
    metric learning  1 * L_D + 2 * L_A, the teacher's embedding of length 1 and the student's free
                     (lenscloth/RKD 0a6c3c0): rkd(distance=1,angle=2,unit=teacher)+task(weight=0)
Park et al. 2019, https://arxiv.org/abs/1904.05068.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from torch.nn import functional

from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, Weighted, same_tap
from kdcache.losses.features.rkd_a import angle_loss
from kdcache.losses.features.rkd_d import distance_loss, no_relation
from kdcache.losses.formulas.rows import vectors_of
from kdcache.losses.options import About, NotNegative, OptionValue
from kdcache.losses.step_inputs import StepInputs


class Relations(LossTerm):
    """A single row relates to nothing: both terms are then 0 with a zero gradient. Maps count as their
    means. Defined per micro batch: the distances and angles are those between its images.
    """

    method = Method(
        title="Relational KD",
        source="Park et al. 2019, https://arxiv.org/abs/1904.05068",
        code="HobbitLong/RepDistiller b84f547 distiller_zoo/RKD.py; lenscloth/RKD 0a6c3c0",
        defaults="classification: 25 and 50; metric learning: distance=1, angle=2, unit=teacher",
        published="CIFAR-100 resnet32x4 -> resnet8x4 71.90, wrn-40-2 -> wrn-16-2 73.35",
    )
    per_micro_batch = "the distances and angles are those between its images"
    same_size = False  # the means over the cells are compared
    task_settings = {SEGMENTATION: {"tap": "neck"}}

    def __init__(
        self,
        maps: Maps,
        *,
        tap: Annotated[str, About("embedding of both sides")] = "embedding",
        distance: Annotated[NotNegative, About("weight of the distances")] = 25.0,
        angle: Annotated[NotNegative, About("weight of the angles")] = 50.0,
        unit: Annotated[
            Literal["none", "teacher"], About("teacher: its embedding is scaled to length 1 first")
        ] = "none",
    ) -> None:
        super().__init__()
        self.tap = tap
        self.distance, self.angle = distance, angle
        self.unit = unit

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        return same_tap(options)

    def forward(self, inputs: StepInputs) -> dict[str, Weighted]:
        student, teacher = vectors_of(inputs, self.tap)
        if self.unit == "teacher":
            teacher = functional.normalize(teacher, dim=1)
        distances = distance_loss(student, teacher) if len(student) > 1 else no_relation(student)
        return {
            "distance": Weighted(distances, self.distance),
            "angle": Weighted(angle_loss(student, teacher), self.angle),
        }
