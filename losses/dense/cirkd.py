"""Cross-image relations: similarities of pixels to pixels of other images, in the batch and in a memory.

1. batch: f = unit vectors per pixel, each net's own; for every ordered pair of images (i, j), i = j too, the
   rows of f_i^T f_j become softmaxes with tau; L = 1 / B^2 * sum over pairs of the mean KL of rows;
2. pixel, region: student pixels through a projector, teacher pixels as they are, both unit; their softmaxes
   over the vectors of a memory (`cirkd_memory.py`) with tau, then T; T^2 * mean KL over the pixels whose
   label is not ignored, 0 where there is none;
3. L = batch + 0.1 * pixel + 0.1 * region; companion kd(T=1).
`row_divergence.py` makes the similarities in blocks: B^2 (H W)^2 multiplications for the batch term, one
block of memory. The pairs are those within one rank.
Projector: 1x1 convolution, batch norm (synchronised where the run synchronises), ReLU, 1x1 convolution, no
biases. Yang et al. 2022, https://arxiv.org/abs/2204.06986; winycg/CIRKD 2d8ad0f `train_cirkd.py`.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcache.cache.spec import IGNORE, BadOption
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, Weighted, same_tap
from kdcache.losses.dense.cirkd_memory import ClassMemory, Permute, Queue, shared_permutations
from kdcache.losses.dense.labels import nearest_labels
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.row_divergence import summed_row_kl
from kdcache.losses.options import About, Count, NotNegative, OptionValue, Positive
from kdcache.losses.step_inputs import StepInputs


@in_float32
def batch_relations(student_BCHW: Tensor, teacher_BDHW: Tensor, *, tau: float, pool: int = 1) -> Tensor:
    """The batch term; maps are average-pooled by `pool` first, with ceil mode."""
    student_BNC, teacher_BND = (_unit_rows(_pooled(one, pool)) for one in (student_BCHW, teacher_BDHW))
    num_images, num_pixels = student_BNC.shape[:2]
    summed = summed_row_kl(
        student_BNC.flatten(0, 1), student_BNC, teacher_BND.flatten(0, 1), teacher_BND, tau
    )
    return summed / (num_images**2 * num_pixels)


@in_float32
def memory_relations(
    student_NC: Tensor, teacher_NC: Tensor, memory_MC: Tensor, *, tau: float, T: float = 1.0
) -> Tensor:
    """T^2 * mean over N anchors of the KL between softmaxes over M vectors. 0 without anchors."""
    memory_1MC = memory_MC[None].to(student_NC.dtype)
    summed = summed_row_kl(student_NC, memory_1MC, teacher_NC, memory_1MC, tau * T)
    return T**2 * summed / max(len(student_NC), 1)


def projector(student_channels: int, teacher_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(student_channels, teacher_channels, kernel_size=1, bias=False),
        nn.BatchNorm2d(teacher_channels),
        nn.ReLU(),
        nn.Conv2d(teacher_channels, teacher_channels, kernel_size=1, bias=False),
    )


class CrossImage(LossTerm):
    """A lambda of 0 leaves its term out, and without both memory terms there is no memory. Defined per
    micro batch: the pairs are those of its images, contrasts are drawn and the memories move.
    """

    method = Method(
        title="Cross-image relational distillation",
        source="Yang et al. 2022, https://arxiv.org/abs/2204.06986",
        code="winycg/CIRKD 2d8ad0f train_cirkd.py, StudentSegContrast, CriterionMiniBatchCrossImagePair",
        modules="projector of two 1x1 convolutions; memories of teacher vectors, 0.4 GB for Cityscapes, "
        "3.4 GB for ADE20K",
        defaults="kd 1, batch 1, pixel and region 0.1 (VOC 0.01)",
        published="mIoU DeepLabV3-R18: Cityscapes 76.38 (74.21), VOC 74.50 (73.21), CamVid 68.21 (66.92), "
        "ADE20K 35.41 (33.91)",
    )
    per_micro_batch = "the pairs are those of its images, contrasts are drawn and the memories move"
    tasks = (SEGMENTATION,)
    companions = {"kd": {"T": 1.0, "weight": 1.0}}

    def __init__(
        self,
        maps: Maps,
        *,
        tap: Annotated[str, About("map of both networks")] = "neck",
        lambda_batch: Annotated[NotNegative, About("weight of the relations in the batch")] = 1.0,
        lambda_pixel: Annotated[NotNegative, About("weight of the relations to stored pixels")] = 0.1,
        lambda_region: Annotated[NotNegative, About("weight of the relations to stored regions")] = 0.1,
        tau: Annotated[Positive, About("temperature, divides the cosines")] = 0.1,
        T: Annotated[Positive, About("second temperature of the memory terms, with factor T^2")] = 1.0,
        pool: Annotated[Count, About("cells a side averaged to one before the batch term")] = 1,
        queue: Annotated[Queue, About("how the memory is filled: as published, or repaired")] = "faithful",
        pixel_memory: Annotated[Count, About("stored pixels per class")] = 20000,
        region_memory: Annotated[Count, About("stored regions per class")] = 2000,
        contrast_pixels: Annotated[Count, About("pixels of a contrast set: N // classes + 1 of each")] = 4096,
        contrast_regions: Annotated[
            Count, About("regions of a contrast set: N // classes + 1 of each")
        ] = 1024,
        enqueue: Annotated[Count, About("pixels stored per image and class and step, at most")] = 16,
    ) -> None:
        super().__init__()
        self.tap, self.tau, self.T, self.pool = tap, tau, T, pool
        self.lambdas = {"batch": lambda_batch, "pixel": lambda_pixel, "region": lambda_region}
        num_classes, channels = maps.facts.num_classes, maps.teacher[tap].channels
        if not (lambda_pixel or lambda_region):
            return
        _check_memory(num_classes, pixel_memory, enqueue)
        self.sizes = {
            "pixel": contrast_pixels // num_classes + 1,
            "region": contrast_regions // num_classes + 1,
        }
        self.projector = projector(maps.student[tap].channels, channels)
        self.memory = ClassMemory(
            num_classes,
            channels,
            pixels=pixel_memory,
            regions=region_memory,
            per_class=enqueue,
            queue=queue,
        )

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        return same_tap(options)

    def forward(self, inputs: StepInputs, *, permute: Permute | None = None) -> dict[str, Weighted]:
        """`permute` takes the place of the drawn permutations."""
        student, teacher = inputs.student[self.tap], inputs.teacher[self.tap]
        values = {}
        if self.lambdas["batch"]:
            values["batch"] = batch_relations(student, teacher, tau=self.tau, pool=self.pool)
        if self.lambdas["pixel"] or self.lambdas["region"]:
            permute = permute or shared_permutations(inputs.generator)
            values |= self._memory_terms(student, teacher, inputs.truth, permute)
        return {name: Weighted(value, self.lambdas[name]) for name, value in values.items()}

    def _memory_terms(
        self, student: Tensor, teacher: Tensor, labels_Bhw: Tensor, permute: Permute
    ) -> dict[str, Tensor]:
        """The memory takes in the teacher's batch first, then gives the contrast sets."""
        labels_BHW = nearest_labels(labels_Bhw, *student.shape[-2:])
        unit_BDHW = functional.normalize(_wide(teacher), dim=1)
        self.memory.enqueue(unit_BDHW, labels_BHW, permute)
        counted_N = (labels_BHW != IGNORE).flatten()
        anchors_NC = _unit_rows(_wide(self.projector(student))).flatten(0, 1)[counted_N]
        targets_NC = _unit_rows(_wide(teacher)).flatten(0, 1)[counted_N]
        draw = {"pixel": self.memory.contrast_pixels, "region": self.memory.contrast_regions}
        return {
            name: memory_relations(
                anchors_NC, targets_NC, draw[name](self.sizes[name], permute), tau=self.tau, T=self.T
            )
            for name in draw
            if self.lambdas[name]
        }


def _pooled(map_BCHW: Tensor, pool: int) -> Tensor:
    return functional.avg_pool2d(map_BCHW, pool, ceil_mode=True) if pool > 1 else map_BCHW


def _unit_rows(map_BCHW: Tensor) -> Tensor:
    """(B, H W, C) vectors of unit length."""
    return functional.normalize(map_BCHW.flatten(2).transpose(1, 2), dim=2)


def _wide(value: Tensor) -> Tensor:
    return value if value.dtype == torch.float64 else value.float()


def _check_memory(num_classes: int, pixel_memory: int, enqueue: int) -> None:
    if num_classes < 1:
        raise BadOption(
            "the number of classes is not known",
            where="loss term 'cirkd'",
            fix="build the losses with Facts(num_classes=...), or cirkd(lambda_pixel=0,lambda_region=0)",
        )
    if pixel_memory < enqueue:
        raise BadOption(
            f"{enqueue} pixels per image do not fit into a memory of {pixel_memory}",
            where="loss term 'cirkd'",
            fix=f"cirkd(pixel_memory={enqueue}) or more, or a smaller enqueue",
        )
