"""A loss, gradient or weight that is not finite: the run stops with step, term and samples, or leaves that
step out and counts it; nothing of it is kept, whatever the form of the step."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_run
import pytest
import torch
from accelerate import Accelerator
from fake_methods import InTurn
from fake_run import CONFIG, run
from plain_run import BARE, Bench, copy_of
from torch import Tensor, nn

from kdcache.cache.errors import NotFinite
from kdcache.losses.contract import LossTerm, Maps, Rival
from kdcache.losses.step_inputs import StepInputs
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.events import RunFinished, StepsDone
from kdcache.trainer.folder.checkpoint import list_checkpoints, load_latest
from kdcache.trainer.folder.metrics_log import read_metrics
from kdcache.trainer.judge.segmentation import SegmentationMetrics
from kdcache.trainer.loop import train
from kdcache.trainer.ranks import start_accelerator
from kdcache.trainer.steps.choose import make_stepper
from kdcache.trainer.steps.contract import RunParts

SKIP = replace(CONFIG, non_finite="skip")
BAD_STEP = 3  # from 0


class Bad(LossTerm):
    """A learned part that is harmless but for one step, where its value, or its gradient alone, is not
    finite. It remembers in a buffer what it last saw."""

    def __init__(self, maps: Maps, *, part: str = "value", kind: str = "nan") -> None:
        super().__init__()
        self.part, self.bad = part, float(kind)
        self.gain = nn.Parameter(torch.ones(1))
        self.register_buffer("memory", torch.zeros(1))

    def forward(self, inputs: StepInputs) -> Tensor:
        bad = inputs.step == BAD_STEP
        self.get_buffer("memory").fill_(self.bad if bad else inputs.step)
        value = (self.gain * 0.1).sum()
        if not bad:
            return value
        if self.part == "value":
            return value * self.bad
        if self.part == "shown":  # the value alone: its gradient is finite
            return value + self.bad
        value.register_hook(lambda slope: slope * self.bad)
        return value * 1.0


class BadRival(LossTerm):
    """A critic whose own loss is not a number in one step."""

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        self.critic = nn.Linear(1, 1, bias=False)

    def rival(self) -> Rival:
        return Rival(self.critic, "sgd", lr=0.5)

    def forward(self, inputs: StepInputs) -> Tensor:
        return self.critic.weight.sum() * 0

    def rival_loss(self, inputs: StepInputs) -> Tensor:
        return self.critic.weight.sum() * (float("nan") if inputs.step == BAD_STEP else 1.0)


BAD = f"{__name__}:Bad"


def finite(run_dir: Path) -> bool:
    """Whether everything that a checkpoint holds of student, losses and average is."""
    start = load_latest(run_dir)
    assert start is not None
    states = [start.states[part] for part in ("distiller", "ema") if part in start.states]
    return all(bool(value.isfinite().all()) for state in states for value in state.values())


@pytest.mark.parametrize("kind", ["nan", "inf"])
@pytest.mark.parametrize(
    ("part", "what"),
    [("value", r"not finite in step 4: total = (nan|inf), Bad = (nan|inf)"), ("slope", "the gradient")],
)
def test_a_step_that_is_not_finite_stops_the_run(part: str, what: str, kind: str, tmp_path: Path) -> None:
    with pytest.raises(NotFinite, match=what):
        run(tmp_path / "r", loss=f"{BAD}(part={part},kind={kind})")
    assert [path.name for path in list_checkpoints(tmp_path / "r")] == ["step-00000002", "step-00000003"]
    assert finite(tmp_path / "r")
    assert load_latest(tmp_path / "r").progress["best"]["step"] == 3  # type: ignore[union-attr]


def test_the_error_names_step_terms_samples_and_commands_that_work(tmp_path: Path) -> None:
    with pytest.raises(NotFinite) as error:
        run(tmp_path / "r", loss="mgd(cwd=0)", bad_at=11)
    assert str(error.value) == (
        "not finite in step 6: total = nan, mgd = nan, unweighted/mgd = nan, the gradient, the weights\n"
        f"  where: {tmp_path / 'r'}, batch of 'key2', 'key3'\n"
        "  fix:   train again under another --run with a lower --lr, with --clip, --warmup-steps or --amp "
        "bf16; the last checkpoint is kept, and goes on without such steps: "
        "kdtrain --run r --resume --non-finite skip"
    )
    resumed = replace(CONFIG, non_finite="skip")
    run(tmp_path / "r", resumed, loss="mgd(cwd=0)", bad_at=11, resume=True)
    assert finite(tmp_path / "r")


@pytest.mark.parametrize("part", ["value", "slope"])
def test_a_step_that_is_left_out_changes_nothing_and_is_counted(part: str, tmp_path: Path) -> None:
    events = run(tmp_path / "r", SKIP, loss=f"{BAD}(part={part})")
    assert finite(tmp_path / "r")
    lines = [line for line in read_metrics(tmp_path / "r") if "loss" in line]
    assert [line["skipped"] for line in lines] == [0, 0, 0, 1, 1, 1, 1]
    if part == "value":
        assert lines[3]["loss"]["total"] is None and lines[3]["unweighted"]["Bad"] is None
    assert "NaN" not in "".join(map(json.dumps, lines))
    (finished,) = [one for one in events if isinstance(one, RunFinished)]
    assert finished.skipped == 1
    assert [one.skipped for one in events if isinstance(one, StepsDone)] == [0, 0, 0, 1, 1, 1, 1]
    progress = load_latest(tmp_path / "r").progress  # type: ignore[union-attr]
    assert progress["skipped"] == 1


@pytest.mark.parametrize("part", ["value", "slope", "shown"])
def test_weights_buffers_momentum_and_average_stay_where_they_were(part: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, replace(BARE, accumulate=2, ema=0.5, momentum=0.9, non_finite="skip"),
                  f"{BAD}(part={part})")  # fmt: skip
    for step in range(BAD_STEP):
        assert not bench.step(step).skipped
    before = {name: value.clone() for name, value in flat(bench.stepper.states()).items()}
    assert bench.step(BAD_STEP).skipped
    after = flat(bench.stepper.states())
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    assert not bench.step(BAD_STEP + 1).skipped
    assert not torch.equal(
        copy_of(bench.stepper.module.student)["head.bias"], before["distiller.student.head.bias"]
    )


def flat(states: Any, name: str = "") -> dict[str, Tensor]:
    if isinstance(states, Tensor):
        return {name: states}
    pairs = (
        states.items() if isinstance(states, dict) else enumerate(states) if isinstance(states, list) else ()
    )
    return {k: v for key, one in pairs for k, v in flat(one, f"{name}.{key}".lstrip(".")).items()}


def test_a_resumed_run_goes_on_counting(tmp_path: Path) -> None:
    with pytest.raises(fake_run.Killed):
        run(tmp_path / "r", SKIP, loss=BAD, kill_at=11)
    events = run(tmp_path / "r", SKIP, loss=BAD, resume=True)
    (finished,) = [one for one in events if isinstance(one, RunFinished)]
    assert finished.skipped == 1


def test_a_run_without_faults_is_the_same_under_both_words(tmp_path: Path) -> None:
    run(tmp_path / "stop", CONFIG)
    run(tmp_path / "skip", SKIP)
    stop, skip = (fake_run.results(tmp_path / word) for word in ("stop", "skip"))
    assert stop["student"] == skip["student"] and stop["checkpoint"] == skip["checkpoint"]


@pytest.mark.parametrize("config", [CONFIG, SKIP], ids=["stop", "skip"])
def test_weights_that_an_update_makes_infinite_stop_the_run_in_either_case(
    config: TrainConfig, tmp_path: Path
) -> None:
    """A finite gradient at a large rate: no step that is left out could mend the weights."""
    huge = replace(config, lr=1e6, ema=None)
    with pytest.raises(NotFinite, match="not finite in step 4: the weights") as error:
        run(tmp_path / "r", huge, loss=f"{BAD}(part=slope,kind=1e36)")
    assert "'key2', 'key3', 'key4', 'key5'" in error.value.where, "every sample of the step"
    assert ("--non-finite skip" in error.value.fix) == (config is CONFIG)
    assert finite(tmp_path / "r")


def test_a_last_step_that_leaves_no_weights_exports_nothing(tmp_path: Path) -> None:
    short = replace(CONFIG, steps=BAD_STEP + 1, eval_every=None, save_every=1000)
    with pytest.raises(NotFinite):
        run(tmp_path / "r", short, loss=f"{BAD}(part=slope)")
    assert not (tmp_path / "r" / "student.pt").exists() and not list_checkpoints(tmp_path / "r")


@pytest.mark.parametrize("word", ["stop", "skip"])
def test_a_rival_whose_gradient_is_not_finite(word: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, replace(BARE, non_finite=word), f"{__name__}:BadRival")
    results = [bench.step(step) for step in range(BAD_STEP + 2)]
    (weight,) = copy_of(bench.term("BadRival")).values()
    assert results[BAD_STEP].skipped == (word == "skip")
    assert bool(weight.isfinite()) == (word == "skip")
    faults = results[BAD_STEP].faults
    assert faults is not None and faults.tolist() == [0.0, float(word == "stop")]


class BadTurn(InTurn):
    """Networks in turn whose loss is not a number in one step."""

    def forward(self, inputs: StepInputs) -> Tensor:
        return super().forward(inputs) * (float("nan") if inputs.step == BAD_STEP else 1.0)


def test_networks_in_turn_stop_with_the_step_and_the_last_checkpoint_is_kept(tmp_path: Path) -> None:
    with pytest.raises(NotFinite, match=r"not finite in step 4: total = nan, BadTurn = nan"):
        run(tmp_path / "r", loss=f"{__name__}:BadTurn")
    assert finite(tmp_path / "r")


def test_a_turn_that_is_left_out_moves_no_network_and_the_next_one_learns(tmp_path: Path) -> None:
    made = fake_run.parts(SKIP, loss=f"{__name__}:BadTurn")
    accelerator = start_accelerator(SKIP, tmp_path, start=0)
    parts = made(accelerator)
    stepper = make_stepper(SKIP, parts, accelerator, sync_bn=False)
    batches = parts.stream.run()
    for step in range(BAD_STEP):
        stepper.step(step, batches, parts.stream)
    before = {name: value.clone() for name, value in flat(stepper.states()).items()}
    assert stepper.step(BAD_STEP, batches, parts.stream).skipped
    after = flat(stepper.states())
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not stepper.step(BAD_STEP + 1, batches, parts.stream).skipped
    assert not all(torch.equal(value, before[name]) for name, value in flat(stepper.states()).items())


def scores(values: list[float]) -> Callable[[nn.Module], SegmentationMetrics]:
    told: Iterator[float] = iter(values)

    def judge(network: nn.Module) -> SegmentationMetrics:
        score = next(told)
        return SegmentationMetrics(score, {"a": score}, 0.5, 2, 0.1)

    return judge


def judged_run(run_dir: Path, values: list[float]) -> None:
    def assemble(accelerator: Accelerator) -> RunParts:
        made = fake_run.parts(CONFIG)(accelerator)
        return replace(made, evaluate=scores(values))

    train(CONFIG, run_dir, assemble)


def test_a_score_that_is_not_a_number_is_never_the_best(tmp_path: Path) -> None:
    nan = math.nan
    judged_run(tmp_path / "late", [nan, 0.2, nan])
    assert json.loads((tmp_path / "late" / "card.json").read_text())["best/step"] == 6
    judged_run(tmp_path / "never", [nan, nan, nan])
    card = json.loads((tmp_path / "never" / "card.json").read_text())
    assert "best/step" not in card and card["final/step"] == 7
