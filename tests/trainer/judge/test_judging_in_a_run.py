"""What a run judges: in its precision, on every rank the student that is exported, the averaged one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from encoded_images import encode
from fake_run import CONFIG, TinyStudent, judge, parts
from rank_steps import on_two_ranks
from tiny_folder import draw_folder
from torch import Tensor, nn
from torch.nn import functional

from kdcache.cache.sources.table import open_source
from kdcache.cache.spec import Task
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION
from kdcache.trainer import assemble as module
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.folder.metrics_log import read_metrics
from kdcache.trainer.judge.alone import judge_alone
from kdcache.trainer.judge.metrics import Metrics
from kdcache.trainer.judge.segmentation import SegmentationMetrics, predict
from kdcache.trainer.loop import train
from kdcache.trainer.ranks import ranks_of, start_accelerator
from kdcache.trainer.steps.contract import RunParts
from kdcache.trainer.stream.run_source import RunSource

TASKS = (SEGMENTATION, CLASSIFICATION)


class White:
    """Two white images of class 1."""

    num_samples, invalid = 2, np.zeros(0, dtype=np.int64)
    class_names = ("a", "b")
    keys = ("0", "1")

    def __init__(self, task: Task) -> None:
        self.task = task

    def size(self, index: int) -> tuple[int, int]:
        return 8, 8

    def files(self, index: int) -> tuple[Path, ...]:
        return ()

    def refuse_unusable(self) -> None:
        return

    def check(self, index: int) -> None:
        assert index in range(self.num_samples)

    def image(self, index: int) -> np.ndarray:
        return encode(np.full((8, 8, 3), 255, dtype=np.uint8))

    def truth(self, index: int) -> np.ndarray:
        if self.task == CLASSIFICATION:
            return np.array([1], dtype=np.int64)
        return encode(np.ones((8, 8), dtype=np.uint8))

    def key(self, index: int) -> str:
        return f"white/{index}"


def white_run(task: Task) -> RunSource:
    return RunSource(
        source=None,
        cache=None,
        task=task,
        spec="white:",
        dataset="white",
        class_names=White.class_names,
        crop=(8, 8),
        augment="",
        output_stride=None,
    )


class Close(nn.Module):
    """Says 0.001 for class 0 and 1.003 - 1 for class 1, which bfloat16 rounds to 0: it then errs always."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.register_buffer("weight", torch.tensor([[0.001, 0.0], [1.003, -1.0]]))

    def forward(self, images_BHWC: Tensor, taps: tuple[str, ...]) -> dict[str, Tensor]:
        logits_BHWK = functional.linear(images_BHWC[..., :2].float() / 255, self.get_buffer("weight"))
        return {"logits": logits_BHWK[:, 0, 0] if self.task == CLASSIFICATION else logits_BHWK.movedim(3, 1)}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("amp", "right"), [("no", 1.0), ("bf16", 0.0)])
def test_a_student_is_judged_in_the_precision_that_it_is_trained_in(
    task: Task, amp: str, right: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(run="r", device="cpu", amp=amp)
    monkeypatch.setattr(module, "splits", lambda spec: ("train", "val"))
    monkeypatch.setattr(module, "open_source", lambda spec, split: White(task))
    evaluate, note = module._validation(
        white_run(task), ranks_of(start_accelerator(config, tmp_path, start=0)), config
    )
    assert evaluate is not None, note
    judged = evaluate(Close(task))
    assert judged.named()["pixel_accuracy" if task == SEGMENTATION else "top1"] == right


@pytest.mark.parametrize("task", TASKS)
def test_a_network_judged_alone_computes_in_float32(task: Task) -> None:
    judged = judge_alone(Close(task), White(task), input_size=(8, 8), device="cpu", num_threads=1)  # type: ignore[arg-type]
    assert judged.named()["pixel_accuracy" if task == SEGMENTATION else "top1"] == 1.0


def test_half_precision_logits_are_enlarged_in_float32() -> None:
    """Class 1 over five pixels: 254, 255.5, 257, 258.5, 260; class 0: 256. bfloat16 counts in twos there."""
    logits_BCHW = torch.tensor([[[[256.0, 256.0]], [[254.0, 260.0]]]]).bfloat16()
    assert predict(logits_BCHW, (1, 5)).tolist() == [[[0, 0, 1, 1, 1]]]


def judged_run(
    run_dir: Path, scores: list[float], **options: Any
) -> tuple[RunParts, list[dict[str, Tensor]]]:
    """A run whose judgements have these scores: its parts, and the weights of the student at each of them."""
    made: list[RunParts] = []
    states: list[dict[str, Tensor]] = []
    config = replace(CONFIG, steps=len(scores), eval_every=1, save_every=100, **options)

    def scored(network: nn.Module) -> Metrics:
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        score = scores[len(states) - 1]
        return SegmentationMetrics(score, {"a": score}, 0.5, 2, 0.1)

    def assemble(accelerator: Accelerator) -> RunParts:
        made.append(replace(parts(config)(accelerator), evaluate=scored))
        return made[0]

    train(config, run_dir, assemble)
    return made[0], states


def exported(run_dir: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(run_dir / "student.pt", weights_only=True)
    return weights


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([0.1, 0.4, 0.3], 2),
        ([0.4, 0.4, 0.1], 1),  # of equals the first
        ([float("nan"), 0.2, float("nan")], 2),
        ([0.3, float("nan"), 0.2], 1),
    ],
)
def test_the_best_judged_student_is_exported_whatever_comes_later(
    scores: list[float], best: int, tmp_path: Path
) -> None:
    _, states = judged_run(tmp_path / "r", scores)
    assert [n for n, state in enumerate(states, start=1) if same(exported(tmp_path / "r"), state)] == [best]
    card = json.loads((tmp_path / "r" / "card.json").read_text())
    assert (card["best/step"], card["best/miou"]) == (best, scores[best - 1])


def test_the_averaged_student_is_judged_where_there_is_one_else_the_trained_one(tmp_path: Path) -> None:
    """The average of one step: 0.9 of the first weights and 0.1 of those after the step."""
    first = {n: p.detach().clone() for n, p in fresh_student(tmp_path).named_parameters()}
    made, (averaged,) = judged_run(tmp_path / "ema", [0.1])
    trained = dict(made.student.named_parameters())
    for name, value in first.items():
        assert not torch.equal(trained[name], value)
        torch.testing.assert_close(averaged[name], 0.9 * value + 0.1 * trained[name].detach())
    made, (judged,) = judged_run(tmp_path / "plain", [0.1], ema=None)
    assert same({name: p.detach() for name, p in made.student.named_parameters()}, judged)


def fresh_student(folder: Path) -> nn.Module:
    return parts(CONFIG)(start_accelerator(CONFIG, folder, start=0)).student


def test_judging_leaves_the_student_training(tmp_path: Path) -> None:
    """Without its dropout and batch statistics every step after the first judgement would be another one."""

    def switching(network: nn.Module) -> Metrics:
        return judge(network.eval())

    config = replace(CONFIG, steps=4, eval_every=1, ema=None)
    for name, evaluate in (("switching", switching), ("still", judge)):
        train(config, tmp_path / name / "r", lambda a, e=evaluate: replace(parts(config)(a), evaluate=e))  # type: ignore[misc]
    losses = [[line["loss"] for line in read_metrics(tmp_path / name / "r") if "loss" in line]
              for name in ("switching", "still")]  # fmt: skip
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_two_ranks_judge_one_student_and_every_image_once(tmp_path: Path) -> None:
    """Their batch statistics differ; judged and exported is the student of rank 0."""
    images = draw_folder(tmp_path / "images", count=3, split="val")
    ranks = on_two_ranks("rank_judging", tmp_path, str(images), str(tmp_path))
    judgements = list(zip(*(rank["judgements"] for rank in ranks), strict=True))
    assert len(judgements) == 2
    for mine, theirs in judgements:
        assert not torch.equal(mine["own"]["stem.1.running_mean"], theirs["own"]["stem.1.running_mean"])
        assert same(mine["state"], theirs["state"])
        assert torch.equal(mine["state"]["stem.1.running_mean"], mine["own"]["stem.1.running_mean"])
        assert mine["metrics"] == theirs["metrics"]
    best = max((mine for mine, _ in judgements), key=lambda judgement: judgement["metrics"]["miou"])
    assert same(exported(tmp_path / "r"), best["state"])
    student = TinyStudent()
    student.load_state_dict(exported(tmp_path / "r"))
    alone = judge_alone(
        student, open_source(f"folder:{images}", "val"), input_size=(8, 8), device="cpu", num_threads=1
    )
    assert alone.named() == best["metrics"]
