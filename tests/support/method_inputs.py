"""Small inputs for every loss of the table, on each task that it is for: 'classification/kd' and so on."""

import torch
from dense_inputs import dense_set, scene
from torch import Tensor

from kdcache.cache.spec import Need, Task, TensorSpec
from kdcache.cache.tasks.table import CLASSIFICATION, DETECTION, SEGMENTATION
from kdcache.losses.contract import Facts
from kdcache.losses.features.sskd import SelfSupervision
from kdcache.losses.loss_set import LossSet
from kdcache.losses.plan.load import load_loss
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.plan.table import LOSSES, TASK
from kdcache.losses.step_inputs import StepInputs

CLASSES, SAMPLES, CELLS, IMAGE = 5, 40, (16, 16), (128, 128)
MAPS = {"stage1": 8, "stage2": 8, "stage3": 16, "stage4": 16, "neck": 8, "aux": CLASSES, "logits": CLASSES}
SIDES = {"stem": 16, "1": 16, "2": 8, "3": 4}
OPTIONS = {  # what a small case needs where the published default is of another size
    "segmentation/afdcd": "(groups=4)",
    "segmentation/skds-holistic": "(levels=2)",
    "segmentation/skds": "(skds-holistic=0)",
    "segmentation/ifvd": "(skds-holistic=0)",
    "segmentation/cirkd": "(pixel_memory=64,region_memory=16,contrast_pixels=40,contrast_regions=20)",
    "classification/crd": "(negatives=8)",
    "classification/mgd": "(tap=stage3)",
    "classification/pkd": "(taps=stage3)",
}


def _cases() -> list[str]:
    """Every loss that a step of one student, or of several at once, can compute; not the generator's."""
    pairs = [(name, load_loss(name, where="tests", task=SEGMENTATION)) for name in LOSSES if name != "dafl"]
    return [f"{task}/{name}" for name, loss in pairs for task in loss.tasks]


CASES = _cases()


def build_case(case: str, *, rounded: bool) -> tuple[LossSet, StepInputs]:
    """The set with one loss and its companions, and inputs for it; `rounded` to what bfloat16 can hold."""
    kind, _, name = case.partition("/")
    task: Task = SEGMENTATION if kind == SEGMENTATION else CLASSIFICATION
    torch.manual_seed(0)
    if kind == DETECTION:
        return _dense_case(name, rounded)
    written = f"{name}{OPTIONS.get(case, '')}"
    alone = written if name.startswith(TASK) else f"{written}+task(weight=0)"
    plan = parse_losses(alone, preset=None, task=task)
    taps = list(dict.fromkeys((*plan.student_taps, *plan.optional_student_taps)))
    student = {tap: spec_of(tap, task) for tap in taps}
    teacher = {need.name: _need(need, task) for need in plan.needs}
    facts = Facts(
        task, CLASSES, SAMPLES, torch.arange(SAMPLES) % CLASSES, torch.randn(CLASSES, 16), 10.0, IMAGE
    )
    losses = plan.build(student=student, teacher=teacher, facts=facts)
    for term in losses.terms.values():
        if isinstance(term, SelfSupervision):
            term.head_steps += 1  # as `--init RUN` of its first stage leaves it
    if name == "sskd":
        losses.get_buffer("terms.sskd.head_steps").fill_(1)  # as after --init of the first stage's run
    rows = 16 if plan.turns else 4
    per_sample = 4 if plan.turns else 1
    shape = (rows, *IMAGE) if task == SEGMENTATION else (rows,)
    labels = torch.randint(0, CLASSES, shape)
    if per_sample > 1:
        labels = labels[::per_sample].repeat_interleave(per_sample)
    inputs = StepInputs(
        student={tap: _draw(spec, rows, tap, rounded).requires_grad_() for tap, spec in student.items()},
        teacher={need: _draw(spec, rows, need, rounded) for need, spec in teacher.items()},
        truth=labels,
        generator=torch.Generator().manual_seed(0),
        step=0,
        epoch=50,
        samples_B=torch.arange(rows) // per_sample,
        images_BHWC=torch.randint(0, 256, (rows, *IMAGE, 3), dtype=torch.uint8),
        rows_per_sample=per_sample,
    )
    return losses, inputs


def _dense_case(name: str, rounded: bool) -> tuple[LossSet, StepInputs]:
    """Two images with objects, gfl on both sides."""
    maps, inputs = scene(dtype=torch.float32)
    if rounded:
        student = {tap: v.detach().bfloat16().float().requires_grad_() for tap, v in inputs.student.items()}
        teacher = {tap: v.bfloat16().float() for tap, v in inputs.teacher.items()}
        inputs = inputs._replace(student=student, teacher=teacher)
    inputs.generator.manual_seed(0)
    return dense_set(name, maps, torch.float32), inputs


def spec_of(tap: str, task: Task) -> TensorSpec:
    """Stride 8 maps of segmentation; of classification maps by stage, vectors for the rest."""
    last = tap.rpartition(".")[2]
    if task == SEGMENTATION:
        return TensorSpec((*CELLS, MAPS[last]), 8)
    if last == "logits":
        return TensorSpec((CLASSES,), 0)
    if last == "embedding":
        return TensorSpec((16,), 0)
    side = 4 if last == "trunk" else SIDES[last if last == "stem" else last[-1]]
    return TensorSpec((side, side, 8), 16 // side or 1)


def _need(need: Need, task: Task) -> TensorSpec:
    spec = spec_of(need.tap, task)
    return spec._replace(shape=(*spec.shape[:-1], 1)) if need.reduction else spec


def _draw(spec: TensorSpec, rows: int, tap: str, rounded: bool) -> Tensor:
    value = torch.randn(rows, spec.channels, *spec.shape[:-1])
    value = value.relu() if tap.startswith("stage") else value
    return value.bfloat16().float() if rounded else value
