"""Generated images: one backward, two optimizers, a teacher that nothing changes, and no image read."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from fake_run import CONFIG, Killed, judge

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.losses.contract import Facts
from kdcache.losses.plan.plan import parse_losses
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.loop import train
from kdcache.trainer.ranks import start_accelerator
from kdcache.trainer.steps.choose import make_stepper
from kdcache.trainer.steps.contract import RunParts
from kdcache.trainer.steps.generator import GeneratorStepper, inventing_term
from kdcache.trainer.stream.batch import Batch, BatchLayout
from kdcache.trainer.stream.noise import NoiseStream

SIZE, CLASSES = 8, 3
DAFL = "dafl(latent=6,lr=0.01)"
SHORT = replace(CONFIG, steps=4, eval_every=2, save_every=1, ema=None)


def network(seed: int) -> Network:
    torch.manual_seed(seed)
    return build_network("resnet8x4", task="classification", num_classes=CLASSES, role="student")


class DyingStream(NoiseStream):
    """A stream of noise that is killed before micro step `kill_at`."""

    kill_at: int | None = None

    def run(self, start_micro_step: int = 0):  # type: ignore[no-untyped-def]
        for batch in super().run(start_micro_step):
            if batch.micro_step == self.kill_at:
                raise Killed
            yield batch


def save(run_dir: Path, student: torch.nn.Module | None, metrics: object) -> None:
    if student is not None:
        torch.save(student.state_dict(), run_dir / "student.pt")


def parts(config: TrainConfig, loss: str = DAFL, *, kill_at: int | None = None) -> RunParts:
    teacher, student = network(1), network(2)
    specs = teacher.tap_specs(("logits", "embedding"), SIZE, SIZE)
    plan = parse_losses(loss, preset=None, task="classification")
    facts = Facts(task="classification", num_classes=CLASSES, num_samples=10, input_size=(SIZE, SIZE))
    stream = DyingStream(BatchLayout(seed=0, global_batch=4, accumulation=config.accumulate), 10)
    stream.kill_at = kill_at
    return RunParts(
        student=student,
        losses=plan.build(student=specs, teacher=specs, facts=facts),
        taps=("logits",),
        stream=stream,
        evaluate=judge,
        score_name="miou",
        export=save,
        summary={},
        resolved={},
        step_form=plan.step_form,
        teacher=teacher,
    )


@pytest.fixture
def stepper(tmp_path: Path) -> GeneratorStepper:
    accelerator: Accelerator = start_accelerator(SHORT, tmp_path, start=0)
    stepper = make_stepper(SHORT, parts(SHORT), accelerator, sync_bn=False)
    assert isinstance(stepper, GeneratorStepper)
    return stepper


@pytest.mark.slow
def test_killed_and_resumed_ends_bit_identical(tmp_path: Path) -> None:
    train(SHORT, tmp_path / "whole", lambda _: parts(SHORT))
    with pytest.raises(Killed):
        train(SHORT, tmp_path / "r", lambda _: parts(SHORT, kill_at=5))
    train(SHORT, tmp_path / "r", lambda _: parts(SHORT), resume=True)
    last = [list_checkpoints(tmp_path / name)[-1] / "digests.json" for name in ("whole", "r")]
    assert last[0].read_text() == last[1].read_text()
    student = torch.load(tmp_path / "r" / "student.pt", weights_only=True)
    assert student.keys() == network(0).state_dict().keys()  # no generator in it


def test_student_and_generator_move_and_the_teacher_does_not(stepper: GeneratorStepper) -> None:
    inventor = stepper.module
    teacher = inventor._beside[0]  # type: ignore[attr-defined]
    _, term = inventing_term(inventor.losses)
    watched = {"student": inventor.student, "generator": term.generator, "teacher": teacher}  # type: ignore[attr-defined]

    def weights(name: str) -> dict[str, torch.Tensor]:
        """Of the teacher also its batch statistics; those of the others change without an optimizer."""
        return watched[name].state_dict() if name == "teacher" else dict(watched[name].named_parameters())

    before = {name: {n: t.detach().clone() for n, t in weights(name).items()} for name in watched}
    stream = NoiseStream(BatchLayout(seed=0, global_batch=4, accumulation=2), 10)
    result = stepper.step(0, stream.run(), stream)
    changed = {
        name: any(not torch.equal(t, before[name][n]) for n, t in weights(name).items()) for name in watched
    }
    assert changed == {"student": True, "generator": True, "teacher": False}
    assert {"dafl.one_hot", "dafl.balance", "dafl.activation", "dafl.student"} < set(result.names)


@pytest.mark.parametrize("word", ["stop", "skip"])
def test_a_step_that_is_not_finite_moves_neither_or_is_said(word: str, tmp_path: Path) -> None:
    config = replace(SHORT, non_finite=word)
    accelerator = start_accelerator(config, tmp_path, start=0)
    made = make_stepper(config, parts(config), accelerator, sync_bn=False)
    assert isinstance(made, GeneratorStepper)
    bad = made.term.student_loss

    def not_a_number(teacher_logits: torch.Tensor, student_logits: torch.Tensor) -> torch.Tensor:
        return bad(teacher_logits, student_logits) * float("nan")

    stream = NoiseStream(BatchLayout(seed=0, global_batch=4, accumulation=2), 10)
    batches = stream.run()
    made.step(0, batches, stream)
    before = {name: value.detach().clone() for name, value in made.module.state_dict().items()}
    made.term.student_loss = not_a_number  # type: ignore[method-assign]
    result = made.step(1, batches, stream)
    kept = all(torch.equal(value, before[name]) for name, value in made.module.state_dict().items())
    assert result.skipped == kept == (word == "skip")
    assert result.faults is not None and result.faults.tolist() == [float(word == "stop")] * 2
    made.term.student_loss = bad  # type: ignore[method-assign]
    assert word == "stop" or not made.step(2, batches, stream).skipped


def test_the_generators_gradient_is_of_its_own_terms_alone(stepper: GeneratorStepper) -> None:
    inventor = stepper.module
    _, term = inventing_term(inventor.losses)
    stream = NoiseStream(BatchLayout(seed=0, global_batch=4), 10)
    batch: Batch = next(stream.run())
    inputs = stepper._inputs(0, batch, stream)
    stepper.wrapped(inputs).total.backward()
    gradient = term.generator.linear.weight.grad.clone()  # type: ignore[attr-defined]
    torch.manual_seed(0)
    inputs.generator.manual_seed(0)
    inputs = stepper._inputs(0, batch, stream)
    images = term.generator(term.draw(4, inputs.generator))
    teacher: Network = inventor._beside[0]  # type: ignore[attr-defined]
    assert not teacher.training
    said = teacher.read_normalised(images, ("logits", "embedding"))
    own = sum(w.value * w.weight for w in term.generator_loss(said["logits"], said["embedding"]).values())
    (expected,) = torch.autograd.grad(own, [term.generator.linear.weight])  # type: ignore[attr-defined]
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("options", [",weight=0.25", ",decay=1,decay_to=0.25"])
def test_weight_and_schedule_of_the_method_hold_for_both_sums(tmp_path: Path, options: str) -> None:
    totals = []
    for loss in (DAFL, f"{DAFL[:-1]}{options})"):
        accelerator = start_accelerator(SHORT, tmp_path, start=0)
        made = make_stepper(SHORT, parts(SHORT, loss), accelerator, sync_bn=False)
        stream = NoiseStream(BatchLayout(seed=0, global_batch=4), 2)  # two samples: an epoch a step
        batch = next(stream.run(start_micro_step=3))
        assert batch.epoch > 1
        with torch.no_grad():
            values = made.wrapped(made._inputs(0, batch, stream))
        totals.append(float(values.total))
        assert float(values.total) == pytest.approx(sum(float(v) for v in values.terms.values()))
    assert totals[1] == pytest.approx(totals[0] * 0.25)


def test_each_optimizer_holds_its_own_weights(stepper: GeneratorStepper) -> None:
    moved = {p for group in stepper.optimizer.param_groups for p in group["params"]}
    assert moved == set(stepper.module.student.parameters())
    assert "rivals" in stepper.states()


def test_further_terms_beside_it_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="stands alone, without labels") as error:
        train(SHORT, tmp_path / "r", lambda _: parts(SHORT, f"{DAFL}+kd"))
    assert "'dafl'" in error.value.fix
