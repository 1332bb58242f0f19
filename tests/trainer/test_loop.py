"""Stories of a run: killed anywhere and resumed, it ends bit for bit as if nothing had happened.

Student, stream, validation and export are small fakes (tests/support/fake_run.py). Losses (with learned parts
and random masks), step, checkpoint and loop are the real ones.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from fake_run import CONFIG, Killed, TinyStudent, export, judge, parts, results, run
from torch import nn

from kdcache.cache.errors import BadOption, Busy
from kdcache.trainer.events import Evaluated, RunFinished, RunStarted, StepsDone
from kdcache.trainer.folder import checkpoint
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.folder.metrics_log import read_metrics
from kdcache.trainer.folder.run_folder import held
from kdcache.trainer.loop import train
from kdcache.trainer.reporter import NotFinite
from kdcache.trainer.steps.contract import RunParts
from kdcache.trainer.stream.batch import BatchLayout


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir: Path = tmp_path_factory.mktemp("whole") / "r"
    run(run_dir)
    return run_dir


@pytest.mark.parametrize("micro_step", [1, 5, 9, 13])  # the second of two: in the middle of an accumulation
def test_killed_inside_an_accumulation_and_resumed_ends_bit_identical(
    whole: Path, tmp_path: Path, micro_step: int
) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "r", kill_at=micro_step)
    run(tmp_path / "r", resume=True)
    assert results(tmp_path / "r") == results(whole)


@pytest.mark.parametrize("count", [1, 9, 17, 25])
def test_killed_inside_a_save_and_resumed_ends_bit_identical(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    calls, real = iter(range(1, 1000)), checkpoint.sync

    def sync(path: Path) -> None:
        if next(calls) == count:
            raise Killed
        real(path)

    monkeypatch.setattr(checkpoint, "sync", sync)
    with pytest.raises(Killed):
        run(tmp_path / "r")
    monkeypatch.setattr(checkpoint, "sync", real)
    run(tmp_path / "r", resume=True)
    assert results(tmp_path / "r") == results(whole)
    assert not list((tmp_path / "r" / "checkpoints").glob(".tmp*"))


def test_killed_between_the_checkpoint_and_the_export_exports_on_resume(whole: Path, tmp_path: Path) -> None:
    best = results(whole)["card"]["best/step"]
    kills = iter([True])

    def dying(run_dir: Path, network: nn.Module | None, metrics: Mapping[str, float]) -> None:
        if network is not None and metrics["best/step"] == best and next(kills, False):
            raise Killed
        export(run_dir, network, metrics)

    def assemble(accelerator: Accelerator) -> RunParts:
        return replace(parts(CONFIG)(accelerator), export=dying)

    with pytest.raises(Killed):
        train(CONFIG, tmp_path / "r", assemble)
    train(CONFIG, tmp_path / "r", assemble, resume=True)
    assert results(tmp_path / "r") == results(whole)


def test_a_line_cut_by_a_kill_is_dropped_on_resume(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "r", kill_at=10)
    with (tmp_path / "r" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "loss": {"tot')
    run(tmp_path / "r", resume=True)
    assert results(tmp_path / "r") == results(whole)


def test_resuming_a_finished_run_changes_nothing(whole: Path) -> None:
    before = results(whole)
    events = run(whole, resume=True)
    assert results(whole) == before
    assert not any(isinstance(event, StepsDone) for event in events)


def test_every_step_is_reported_once_and_the_end_is_validated(whole: Path, tmp_path: Path) -> None:
    events = run(tmp_path / "r")
    assert isinstance(events[0], RunStarted) and isinstance(events[-1], RunFinished)
    assert [event.step for event in events if isinstance(event, StepsDone)] == list(range(1, 8))
    assert [event.step for event in events if isinstance(event, Evaluated)] == [3, 6, 7]
    terms = next(event for event in events if isinstance(event, StepsDone)).terms
    assert terms["total"] == pytest.approx(sum(value for name, value in terms.items() if name != "total"))
    line = read_metrics(whole)[0]
    assert line["step"] == 1 and line["lr"] == 0.1 and set(line["loss"]) == set(terms)


def test_the_exported_student_is_the_best_one_on_validation(whole: Path) -> None:
    judged = {line["step"]: line["miou"] for line in read_metrics(whole) if "miou" in line}
    card = results(whole)["card"]
    assert card["best/miou"] == max(judged.values()) == judged[card["best/step"]]
    assert card["final/miou"] == judged[7]
    network = TinyStudent()
    network.load_state_dict(torch.load(whole / "student.pt", weights_only=True))
    assert judge(network).miou == card["best/miou"]


def test_without_validation_the_last_student_is_exported(tmp_path: Path) -> None:
    config = replace(CONFIG, ema=None)
    train(config, tmp_path / "r", parts(config, validate=False))
    student = torch.load(tmp_path / "r" / "student.pt", weights_only=True)
    state = torch.load(list_checkpoints(tmp_path / "r")[-1] / "distiller.pt", weights_only=True)
    assert all(torch.equal(value, state[f"student.{name}"]) for name, value in student.items())


def test_accumulation_covers_the_same_samples() -> None:
    layouts = [BatchLayout(seed=0, global_batch=4, accumulation=a) for a in (1, 2, 4)]
    seen = [[p for n in range(2 * lay.accumulation) for p in lay.positions(n)] for lay in layouts]
    assert seen[0] == seen[1] == seen[2] == list(range(8))


def test_a_loss_that_is_not_finite_names_terms_and_step_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NotFinite, match=r"not finite in step 6: total = nan, .*mgd") as error:
        run(tmp_path / "r", bad_at=11)
    assert "last checkpoint is kept" in error.value.fix
    assert [path.name for path in list_checkpoints(tmp_path / "r")] == ["step-00000003", "step-00000004"]
    run(tmp_path / "r", resume=True)


def test_a_run_folder_that_exists_is_never_overwritten(whole: Path) -> None:
    before = results(whole)
    with pytest.raises(BadOption, match="run 'r' exists") as error:
        run(whole)
    assert "--resume" in error.value.fix and error.value.fix.endswith("kdtrain rm r")
    assert results(whole) == before


def test_a_second_process_on_the_same_run_is_refused(whole: Path) -> None:
    with held(whole), pytest.raises(Busy, match="another process is training run 'r'"):
        run(whole, resume=True)


def test_another_seed_gives_another_student(whole: Path, tmp_path: Path) -> None:
    run(tmp_path / "r", replace(CONFIG, seed=1))
    assert results(tmp_path / "r")["student"] != results(whole)["student"]
