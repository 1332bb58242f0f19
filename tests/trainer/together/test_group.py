"""Runs that are trained together: each ends with the bits that it has when it is trained alone, whatever
becomes of the others."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_run import CONFIG, FakeStream, parts, results, run
from torch import Tensor

from kdcache.cache.errors import NotFinite
from kdcache.cache.processes.stop import Stopped, signals
from kdcache.losses.contract import LossTerm, Maps
from kdcache.losses.step_inputs import StepInputs
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.loop import Training
from kdcache.trainer.together.group import Ended, Member, train_together

STEPS = 7
# Other losses, of which one has two students in turn and one a critic; other rates, averages, lengths.
RUNS: dict[str, tuple[TrainConfig, str]] = {
    "mgd": (CONFIG, "mgd(cwd=0)"),
    "none": (replace(CONFIG, lr=0.02, ema=None, eval_every=2), "none"),
    "short": (replace(CONFIG, steps=4, clip=None, save_every=3), "mgd(cwd=0)"),
    "turn": (replace(CONFIG, optimizer="adamw", lr=0.001), "fake_methods:InTurn"),
    "critic": (replace(CONFIG, momentum=0.5), "fake_methods:Critic"),
}
NAMES = tuple(RUNS)


class Bad(LossTerm):
    """Not a number in step 2, from 0."""

    def __init__(self, maps: Maps) -> None:
        super().__init__()

    def forward(self, inputs: StepInputs) -> Tensor:
        return inputs.student["logits"].mean() * (float("nan") if inputs.step == 2 else 0.0)


def member(
    home: Path, name: str, *, resume: bool = False, change: dict[str, Any] | None = None, **stream: int | None
) -> Member:
    config, loss = RUNS[name]
    config = replace(config, run=name, **(change or {}))

    def training() -> Training:
        return Training(config, home / name, parts(config, loss=loss, **stream), resume)

    return Member(name, ["kdtrain", "--run", name], training)


def together(home: Path, members: list[Member]) -> dict[str, Ended]:
    ended: dict[str, Ended] = {}
    train_together(members, lambda one: ended.update({one.name: one}))
    return ended


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run in turn, by itself."""
    home = tmp_path_factory.mktemp("alone")
    for name, (config, loss) in RUNS.items():
        run(home / name, replace(config, run=name), loss=loss)
    return home


def assert_same(home: Path, alone: Path, names: tuple[str, ...] = NAMES) -> None:
    for name in names:
        assert results(home / name) == results(alone / name), name
        mine, theirs = (torch.load(one / name / "student.pt") for one in (home, alone))
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs), name


def test_every_run_ends_with_the_bits_that_it_has_alone(alone: Path, tmp_path: Path) -> None:
    ended = together(tmp_path, [member(tmp_path, name) for name in NAMES])
    assert set(ended) == set(NAMES)
    assert all(one.error is None and one.card["final/step"] for one in ended.values())
    assert_same(tmp_path, alone)
    learnt = [(alone / name / "student.pt").read_bytes() for name in NAMES]
    assert len(set(learnt)) == len(NAMES), "one would pass for another"


def test_a_batch_is_drawn_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    answered: list[int] = []
    real_run, real_targets = FakeStream.run, FakeStream.targets

    def counted(self: FakeStream, start_micro_step: int = 0) -> Iterator[Any]:
        for batch in real_run(self, start_micro_step):
            drawn.append(batch.micro_step)
            yield batch

    def targets(self: FakeStream, batch: Any) -> Any:
        answered.append(batch.micro_step)
        return real_targets(self, batch)

    monkeypatch.setattr(FakeStream, "run", counted)
    monkeypatch.setattr(FakeStream, "targets", targets)
    together(tmp_path, [member(tmp_path, name) for name in NAMES])
    assert drawn == list(range(STEPS * CONFIG.accumulate))
    assert answered == drawn


def test_a_run_that_fails_ends_alone(alone: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, run="bad")
    assemble = parts(config, loss=f"{__name__}:Bad")
    bad = Member("bad", ["kdtrain"], lambda: Training(config, tmp_path / "bad", assemble))
    members = [member(tmp_path, name) for name in NAMES]
    ended = together(tmp_path, [*members[:2], bad, *members[2:]])
    assert isinstance(ended["bad"].error, NotFinite) and not ended["bad"].card
    assert "not finite in step 3" in str(ended["bad"].error)
    assert "kdtrain --run bad --resume --non-finite skip" in str(ended["bad"].error)
    assert list(ended)[0] == "bad", "it is told at once"
    assert_same(tmp_path, alone)


def test_a_run_whose_options_are_wrong_leaves_no_folder_and_the_others_go_on(
    alone: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, run="mgd")
    wrong = member(tmp_path, "mgd")._replace(
        training=lambda: Training(config, tmp_path / "mgd", parts(config, loss="dml"))
    )
    ended = together(tmp_path, [wrong, member(tmp_path, "none"), member(tmp_path, "short")])
    assert "'dml' is a method for classification" in str(ended["mgd"].error)
    assert not (tmp_path / "mgd").exists()
    assert_same(tmp_path, alone, ("none", "short"))


def test_a_run_that_needs_the_process_for_itself_is_told_how_to_train(alone: Path, tmp_path: Path) -> None:
    ended = together(tmp_path, [member(tmp_path, "mgd", change={"compile": True}), member(tmp_path, "none")])
    told = str(ended["mgd"].error)
    assert "run 'mgd' cannot be trained beside others: torch.compile keeps one state per process" in told
    assert "train it alone: kdtrain --run mgd" in told and not (tmp_path / "mgd").exists()
    assert_same(tmp_path, alone, ("none",))


@pytest.mark.parametrize("at", [0, 1, 4, 5, 6, 9])  # before, in the middle and at the end of a step
def test_a_signal_ends_all_at_one_step_and_they_go_on_to_the_same_bits(
    alone: Path, tmp_path: Path, at: int
) -> None:
    with signals(), pytest.raises(Stopped):
        together(tmp_path, [member(tmp_path, name, signal_at=at) for name in NAMES])
    going = [name for name in NAMES if RUNS[name][0].steps == STEPS]
    last = {name: list_checkpoints(tmp_path / name)[-1].name for name in going}
    assert len(set(last.values())) == 1, last
    ended = together(tmp_path, [member(tmp_path, name, resume=True) for name in NAMES])
    assert all(one.error is None for one in ended.values())
    assert_same(tmp_path, alone)


def test_runs_at_different_steps_go_on_together(alone: Path, tmp_path: Path) -> None:
    for name, at in (("mgd", 11), ("none", 5), ("turn", 9)):
        with signals(), pytest.raises(Stopped):
            config, loss = RUNS[name]
            run(tmp_path / name, replace(config, run=name), loss=loss, signal_at=at, number=signal.SIGINT)
    members = [member(tmp_path, name, resume=name in ("mgd", "none", "turn")) for name in NAMES]
    ended = together(tmp_path, members)
    assert all(one.error is None for one in ended.values()), ended
    assert_same(tmp_path, alone)


def test_a_run_that_fails_inside_a_step_leaves_the_next_one_whole(alone: Path, tmp_path: Path) -> None:
    with signals(), pytest.raises(Stopped):
        config, loss = RUNS["mgd"]
        run(tmp_path / "mgd", replace(config, run="mgd"), loss=loss, signal_at=5)  # in step 3, from 1
    fails = member(tmp_path, "none")
    micro_steps: list[int] = []

    def breaking(accelerator: Any) -> Any:
        made = fails.training().assemble(accelerator)

        def hook(module: Any, inputs: Any) -> None:
            micro_steps.append(len(micro_steps))
            if micro_steps[-1] == 4:  # the first of two in step 3
                raise ZeroDivisionError

        made.student.register_forward_pre_hook(hook)
        return made

    broken = fails._replace(training=lambda: fails.training()._replace(assemble=breaking))
    ended = together(tmp_path, [broken, member(tmp_path, "mgd", resume=True)])
    assert isinstance(ended["none"].error, ZeroDivisionError)
    assert_same(tmp_path, alone, ("mgd",))


def test_an_error_of_the_stream_ends_all_with_what_each_would_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: FakeStream, start_micro_step: int = 0) -> Iterator[Any]:
        yield from (b for b, _ in zip(run_of(self, start_micro_step), range(5), strict=False))
        raise NotFinite("the pixels are gone", where="x", fix="y")

    run_of: Callable[..., Any] = FakeStream.run
    monkeypatch.setattr(FakeStream, "run", broken)
    ended = together(tmp_path, [member(tmp_path, name) for name in NAMES])
    assert {str(one.error).partition("\n")[0] for one in ended.values()} == {"the pixels are gone"}


def test_runs_of_other_batches_are_trained_one_after_another(alone: Path, tmp_path: Path) -> None:
    members = [
        member(tmp_path, "mgd"),
        member(tmp_path, "none"),
        member(tmp_path, "short", change={"seed": 3}),
    ]
    ended = together(tmp_path, members)
    assert all(one.error is None for one in ended.values())
    assert_same(tmp_path, alone, ("mgd", "none"))


def test_a_run_that_writes_into_what_all_read_is_told_by_name(tmp_path: Path) -> None:
    def spoils(accelerator: Any) -> Any:
        made = parts(replace(CONFIG, run="none"), loss="none")(accelerator)
        made.student.register_forward_pre_hook(lambda _, inputs: (inputs[0].add_(1), inputs[1]))
        return made

    config = replace(CONFIG, run="none")
    spoiling = Member("none", ["kdtrain"], lambda: Training(config, tmp_path / "none", spoils))
    members = [member(tmp_path, "mgd"), spoiling]
    ended = together(tmp_path, members)
    assert "run 'none' writes into the batch" in str(ended["none"].error)
    assert "run 'none' writes into the batch" in str(ended["mgd"].error)
