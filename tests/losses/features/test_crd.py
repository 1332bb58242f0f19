"""CRD: its memories, its negatives and its scale, alone and over several ranks."""

import pytest
import torch
from bare_inputs import specs
from term_inputs import build_set, classified, slope_holds, vectors
from torch import Tensor

from kdcache.cache.spec import BadOption, TensorSpec
from kdcache.losses.contract import Facts, Maps
from kdcache.losses.features import crd
from kdcache.losses.features.crd import ContrastiveRepresentation, similarities
from kdcache.losses.features.negatives import OtherClasses
from kdcache.losses.step_inputs import StepInputs

LABELS = torch.tensor([2, 0, 1, -1, 0, 2, 2, 1, 0, 2])
FACTS = Facts("classification", 3, len(LABELS), LABELS)


def inputs_for(samples: list[int], seed: int = 0) -> StepInputs:
    taps = {"embedding": 6, "logits": 3}
    rows = len(samples)
    student, teacher = vectors(taps, rows=rows, seed=seed), vectors(taps, rows=rows, seed=seed + 1)
    inputs = classified(student, teacher, labels=[max(int(LABELS[s]), 0) for s in samples])
    return inputs._replace(samples_B=torch.tensor(samples))


def term_for(inputs: StepInputs, facts: Facts = FACTS, **options: object) -> ContrastiveRepresentation:
    torch.manual_seed(0)
    maps = Maps(specs(inputs.student), specs(inputs.teacher), facts)
    return ContrastiveRepresentation(maps, dim=4, **options).double()  # type: ignore[arg-type]


def test_negatives_are_different_samples_of_other_classes() -> None:
    others = OtherClasses(LABELS, len(LABELS), where="here")
    rows = torch.tensor([1, 0, 2])
    drawn = others.draw(rows, others.fewest, torch.Generator().manual_seed(0))
    assert others.fewest == 5  # nine with a class, four of class 2
    for sample, negatives in zip(rows.tolist(), drawn, strict=True):
        assert len(set(negatives.tolist())) == len(negatives)
        assert not {int(LABELS[sample]), -1} & set(LABELS[negatives].tolist())


def test_every_sample_of_another_class_is_as_likely() -> None:
    others = OtherClasses(LABELS, len(LABELS), where="here")
    drawn = others.draw(torch.full((6000,), 4), 2, torch.Generator().manual_seed(0))
    counts = drawn.flatten().bincount(minlength=len(LABELS))
    assert counts[LABELS == 0].sum() == 0 and counts[3] == 0
    assert counts[(LABELS > 0)].min() > 1850 and counts.max() < 2150  # 2000 each; deviation 36


def test_the_draw_comes_from_the_generator_of_the_step_alone() -> None:
    inputs = inputs_for([0, 1])
    values = []
    for noise in (1, 2):
        term = term_for(inputs, negatives=2)
        torch.manual_seed(noise)
        inputs.generator.manual_seed(3)
        values.append(term(inputs).item())
    inputs.generator.manual_seed(4)
    assert values[0] == values[1] != term_for(inputs, negatives=2)(inputs).item()


def test_fewer_samples_than_negatives_are_said_and_used_up() -> None:
    term = term_for(inputs_for([0, 1]))
    assert term.num_negatives == 5
    assert term.notes == ("crd: 5 negatives instead of 16384, as many samples are of another class",)


@pytest.mark.parametrize("momentum", [0.5, 0.75])
def test_a_row_is_remembered_as_the_unit_of_the_mean_with_its_old_one(momentum: float) -> None:
    inputs = inputs_for([7, 2])
    term = term_for(inputs, momentum=momentum)
    before = term.memory_student_ND.clone()
    embedded = crd.unit(term.embed_student(inputs.student["embedding"]))
    term(inputs)
    wanted = crd.unit(momentum * before[[7, 2]] + (1 - momentum) * embedded)
    torch.testing.assert_close(term.memory_student_ND[[7, 2]], wanted)
    others = [n for n in range(len(LABELS)) if n not in (7, 2)]
    assert torch.equal(term.memory_student_ND[others], before[others])


def test_the_scale_is_that_of_the_first_batch_for_good_and_is_saved() -> None:
    term = term_for(inputs_for([0, 1]))
    term(inputs_for([0, 1]))
    first = term.scales_2.clone()
    term(inputs_for([4, 5], seed=7))
    assert torch.equal(term.scales_2, first) and (first > 0).all()
    again = term_for(inputs_for([0, 1]))
    again.load_state_dict(term.state_dict())
    assert torch.equal(again.memory_teacher_ND, term.memory_teacher_ND) and torch.equal(again.scales_2, first)


def test_ranks_remember_the_rows_of_all_and_share_one_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks with their own rows end with the memories of one rank that has all of them."""
    parts = ([0, 1], [4, 5])
    gathered: list[list[Tensor]] = [[], []]
    inputs = [inputs_for(samples, seed=10 * n) for n, samples in enumerate(parts)]
    for rank in range(2):  # first pass: what each rank would send

        def record(rows: Tensor, rank: int = rank) -> Tensor:
            gathered[rank].append(rows.detach())
            return rows

        monkeypatch.setattr(crd, "gather_rows", record)
        term_for(inputs[rank])(inputs[rank])
    states = []
    for rank in range(2):
        calls = iter(zip(*gathered, strict=True))
        monkeypatch.setattr(crd, "gather_rows", lambda rows, calls=calls: torch.cat(next(calls)))
        term = term_for(inputs[rank])
        term(inputs[rank])
        states.append(term.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    fresh = term_for(inputs[0]).memory_student_ND
    changed = (states[0]["memory_student_ND"] != fresh).any(1).nonzero().flatten()
    assert changed.tolist() == [0, 1, 4, 5]


def test_a_sample_twice_in_a_batch_keeps_its_last_row() -> None:
    inputs = inputs_for([5, 1, 5])
    term = term_for(inputs)
    before = term.memory_teacher_ND[5].clone()
    last = crd.unit(term.embed_teacher(inputs.teacher["embedding"]))[2]
    term(inputs)
    torch.testing.assert_close(term.memory_teacher_ND[5], crd.unit((0.5 * before + 0.5 * last)[None])[0])


def test_the_gradient_is_the_slope_for_embeddings_and_layers() -> None:
    inputs = inputs_for([0, 1, 2])
    losses = build_set("crd(dim=4,T=0.5,momentum=1)+task(weight=0)", inputs, facts=FACTS)
    losses(inputs)  # settles the scale; momentum 1 keeps the memories
    with torch.no_grad():
        for side in ("student", "teacher"):
            memory = losses.terms["crd"].get_buffer(f"memory_{side}_ND")
            memory.copy_(crd.unit(memory))
    assert slope_holds(losses, inputs)


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (Facts("classification", 3, 10), "the classes of 0 samples are known, of 10 samples in all"),
        (Facts("classification", 3, 9, LABELS), "the classes of 10 samples are known, of 9 samples in all"),
        (
            Facts("classification", 3, 4, torch.tensor([1, 1, -1, 1])),
            "all 3 samples are of one class: there are no negatives",
        ),
    ],
)
def test_data_without_negatives_is_refused_before_the_first_step(facts: Facts, text: str) -> None:
    with pytest.raises(BadOption) as caught:
        term_for(inputs_for([0, 1]), facts)
    assert (
        caught.value.what == text and caught.value.where == "loss term 'crd'" and "train" in caught.value.fix
    )


def test_a_step_without_sample_numbers_is_refused() -> None:
    inputs = inputs_for([0, 1])
    with pytest.raises(BadOption, match="which samples its rows are\n.*'crd'\n.*number their samples"):
        term_for(inputs)(inputs._replace(samples_B=None))


def test_a_map_is_no_embedding() -> None:
    maps = {"stage3": TensorSpec((8, 8, 16), 4)}
    with pytest.raises(BadOption, match="'stage3' is a map of 8x8x16.*\n.*'crd'\n.*tap=embedding"):
        ContrastiveRepresentation(Maps(maps, maps, FACTS), tap="stage3")


def test_one_product_with_the_whole_memory_is_that_with_the_gathered_rows() -> None:
    draw = torch.Generator().manual_seed(0)
    memory = torch.randn(30, 8, generator=draw, dtype=torch.float64)
    embedding = torch.randn(4, 8, generator=draw, dtype=torch.float64, requires_grad=True)
    compared = torch.randint(0, 30, (4, 9), generator=draw)  # 36 rows, more than the memory has
    slow = torch.einsum("bcd,bd->bc", memory[compared], embedding)
    fast = similarities(memory, compared, embedding)
    few = similarities(memory, compared[:, :2], embedding)  # 8 rows, fewer
    assert torch.allclose(fast, slow) and torch.allclose(few, slow[:, :2])
    (expected,) = torch.autograd.grad(slow.square().sum(), embedding)
    assert torch.allclose(torch.autograd.grad(fast.square().sum(), embedding)[0], expected)
