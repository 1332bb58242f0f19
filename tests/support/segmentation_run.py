"""Every method for segmentation in a few tiny steps: a student with all the taps, targets for all needs.

The stream, the validation and the export are those of `fake_run`; maps have 8 x 8 cells, stride 2.
"""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from fake_run import CLASSES, SIZE, FakeStream, export
from torch import Tensor, nn

from kdcache.cache.spec import TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import Facts
from kdcache.losses.loss_set import LossSet
from kdcache.losses.plan.load import load_loss
from kdcache.losses.plan.plan import LossPlan, parse_losses
from kdcache.losses.plan.table import LOSSES
from kdcache.losses.step_inputs import StepInputs
from kdcache.trainer.assemble import student_taps
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.steps.contract import RunParts
from kdcache.trainer.stream.batch import Batch, BatchLayout

STRIDE = 2
CELLS = (SIZE // STRIDE, SIZE // STRIDE)
OPTIONS = {  # what 8 x 8 cells of 8 channels need where the published default is of another size
    "skds-holistic": "(levels=1)",
    "skds": "+skds-holistic(levels=1)",
    "ifvd": "+skds-holistic(levels=1,optimizer=adam,first=student,weight=0.001)",
    "cirkd": "(contrast_pixels=64,contrast_regions=16,pixel_memory=40,region_memory=10)",
    "afdcd": "(groups=4)",
}
FORMS = (
    "kd(form=skds)",
    "kd(form=ifvd,upsample=8)",
    "fitnet(form=repdistiller)",
    "fitnet(form=lenscloth)",
    "fitnet(form=original,kd=0)",
    "cwd(norm=spatial)",
    "cwd(norm=channel_mean)",
    "skds-pair(form=cirkd)",
    "skds-holistic(levels=1,adversarial=hinge,optimizer=adam,first=student,rate=constant,statistics=all)",
    "skds-holistic(levels=1,condition=image)",
    "cirkd(queue=corrected,pool=2,pixel_memory=40,region_memory=10)",
    "afdcd(groups=4,mode=channel)",
    "afdcd(mode=spatial)",
)
METHODS = (
    *(
        f"{name}{OPTIONS.get(name, '')}"
        for name in LOSSES
        if SEGMENTATION in load_loss(name, where="tests", task=SEGMENTATION).tasks
    ),
    *FORMS,
)


class AllTaps(nn.Module):
    """Batch statistics and dropout: what a student remembers and draws. Its stages are narrower than the
    teacher's (`STUDENT`, `TEACHER`), so that adapters learn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, STRIDE, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.stages = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()) for _ in range(4))
        self.neck = nn.Sequential(nn.Conv2d(4, TEACHER["neck"], 1), nn.ReLU(), nn.Dropout(0.2))
        self.aux = nn.Conv2d(4, CLASSES, 1)
        self.logits = nn.Conv2d(TEACHER["neck"], CLASSES, 1)
        self.taps = tuple(TEACHER)

    def forward(self, images_BHWC: Tensor, taps: tuple[str, ...]) -> dict[str, Tensor]:
        hidden = self.stem(images_BHWC.permute(0, 3, 1, 2).float() / 255)
        maps = {}
        for number, stage in enumerate(self.stages, start=1):
            maps[f"stage{number}"] = hidden = stage(hidden)
        maps["aux"], maps["neck"] = self.aux(maps["stage3"]), self.neck(hidden)
        maps["logits"] = self.logits(maps["neck"])
        return {tap: maps[tap] for tap in taps}

    def tap_specs(self, taps: tuple[str, ...]) -> dict[str, TensorSpec]:
        return {tap: TensorSpec((*CELLS, STUDENT.get(tap, TEACHER[tap])), STRIDE) for tap in taps}


TEACHER = {"stage1": 8, "stage2": 8, "stage3": 8, "stage4": 8, "neck": 6, "aux": CLASSES, "logits": CLASSES}
STUDENT = {f"stage{number}": 4 for number in range(1, 5)}


class Targets(FakeStream):
    """The fake stream with a target for every need of a plan."""

    def __init__(self, layout: BatchLayout, plan: LossPlan, *, kill_at: int | None = None) -> None:
        super().__init__(layout, kill_at=kill_at)
        self.plan = plan

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(1000 + batch.micro_step + 10_000 * self.layout.rank)
        rows = len(batch.images_BHWC)
        return {
            need.name: torch.randn(rows, TEACHER[need.tap], *CELLS, generator=draw)
            for need in self.plan.needs
        }


def method_inputs(loss: str, *, rows: int = 4) -> tuple[LossSet, StepInputs]:
    """The losses and random inputs of one step for them, without a run."""
    torch.manual_seed(0)
    plan = parse_losses(loss, preset=None, task=SEGMENTATION).given(tuple(TEACHER))
    taps = (*plan.student_taps, *plan.optional_student_taps)
    specs = AllTaps().tap_specs(tuple(dict.fromkeys(taps)))
    losses = plan.build(student=specs, teacher=teacher_specs(plan), facts=Facts(num_classes=CLASSES))
    inputs = StepInputs(
        student={
            tap: torch.randn(rows, spec.channels, *CELLS).requires_grad_() for tap, spec in specs.items()
        },
        teacher={need.name: torch.randn(rows, TEACHER[need.tap], *CELLS) for need in plan.needs},
        truth=torch.randint(0, CLASSES, (rows, SIZE, SIZE)),
        generator=torch.Generator().manual_seed(0),
        step=0,
        epoch=0,
        samples_B=torch.arange(rows),
        images_BHWC=torch.randint(0, 256, (rows, SIZE, SIZE, 3), dtype=torch.uint8),
    )
    return losses, inputs


def teacher_specs(plan: LossPlan) -> dict[str, TensorSpec]:
    return {need.name: TensorSpec((*CELLS, TEACHER[need.tap]), STRIDE) for need in plan.needs}


def method_parts(
    config: TrainConfig, loss: str, *, kill_at: int | None = None
) -> Callable[[Accelerator], RunParts]:
    """What a run of the loss needs; `kill_at` dies before that micro step."""

    def assemble(accelerator: Accelerator) -> RunParts:
        torch.manual_seed(config.seed)
        plan = parse_losses(loss, preset=None, task=SEGMENTATION).given(tuple(TEACHER))
        student = AllTaps()
        taps = student_taps(plan, student)  # type: ignore[arg-type]
        layout = BatchLayout(
            seed=0,
            global_batch=config.batch_size,
            world=int(accelerator.num_processes),
            rank=int(accelerator.process_index),
            accumulation=config.accumulate,
        )
        return RunParts(
            student=student,
            losses=plan.build(
                student=student.tap_specs(taps),
                teacher=teacher_specs(plan),
                facts=Facts(num_classes=CLASSES),
            ),
            taps=taps,
            stream=Targets(layout, plan, kill_at=kill_at),
            evaluate=None,
            score_name="miou",
            export=export,
            summary={"student": "tiny"},
            resolved={"student": "tiny"},
            step_form=plan.step_form,
        )

    return assemble
