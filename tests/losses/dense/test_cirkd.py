"""CIRKD: relations in the batch, the two memories with and without the published faults, their limits."""

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from bare_inputs import step_inputs
from torch import Tensor
from torch.nn import functional

from kdcache.cache.spec import IGNORE, BadOption, TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import Facts, Maps
from kdcache.losses.dense.cirkd import CrossImage, batch_relations, memory_relations
from kdcache.losses.dense.cirkd_memory import ClassMemory, shared_permutations
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def straight(count: int) -> Tensor:
    return torch.arange(count)


def maps(num_classes: int = 2) -> Maps:
    return Maps(
        {"neck": TensorSpec((3, 4, 6), 8)}, {"neck": TensorSpec((3, 4, 5), 8)}, Facts(num_classes=num_classes)
    )


def small_term(**options: object) -> CrossImage:
    sizes = {"pixel_memory": 9, "region_memory": 3, "contrast_pixels": 8, "contrast_regions": 2, "enqueue": 4}
    return CrossImage(maps(), **{**sizes, **options})  # type: ignore[arg-type]


def inputs_for(labels: Tensor, seed: int = 0) -> StepInputs:
    student, teacher = drawn(2, 6, 3, 4, seed=1).float(), drawn(2, 5, 3, 4, seed=2).float()
    inputs = step_inputs({"neck": student.requires_grad_()}, {"neck": teacher}, labels)
    inputs.generator.manual_seed(seed)
    return inputs


def test_the_batch_term_is_the_formula_over_all_ordered_pairs() -> None:
    student, teacher = drawn(3, 4, 2, 3, seed=1), drawn(3, 5, 2, 3, seed=2)
    total = 0.0
    for i in range(3):
        for j in range(3):
            logs = []
            for side in (student, teacher):
                rows = functional.normalize(side.flatten(2), dim=1)
                logs.append((rows[i].T @ rows[j] / 0.1).log_softmax(1))
            total += (logs[1].exp() * (logs[1] - logs[0])).sum(1).mean().item()
    assert batch_relations(student, teacher, tau=0.1).item() == pytest.approx(total / 9, rel=1e-12)


def test_gradients_are_those_of_the_values() -> None:
    student, teacher = drawn(2, 3, 2, 3, seed=1).requires_grad_(), drawn(2, 4, 2, 3, seed=2)
    assert torch.autograd.gradcheck(lambda s: batch_relations(s, teacher, tau=0.5, pool=2), (student,))
    rows, targets, memory = drawn(4, 3, seed=3).requires_grad_(), drawn(4, 3, seed=4), drawn(6, 3, seed=5)
    assert torch.autograd.gradcheck(lambda s: memory_relations(s, targets, memory, tau=0.3, T=2.0), (rows,))


def test_one_image_is_compared_with_itself() -> None:
    alone = batch_relations(drawn(1, 4, 2, 3, seed=1), drawn(1, 5, 2, 3, seed=2), tau=0.1)
    assert math.isfinite(alone.item()) and alone.item() > 0


@pytest.mark.parametrize("queue", ["faithful", "corrected"])
def test_pixels_of_a_class_are_stored_as_published_or_repaired(queue: str) -> None:
    memory = ClassMemory(2, 4, pixels=5, regions=2, per_class=3, queue=queue)  # type: ignore[arg-type]
    before = memory.pixels_KPD.clone()
    features = functional.normalize(drawn(1, 4, 1, 6, seed=1), dim=1).float()
    labels = torch.tensor([[[1, 0, IGNORE, 1, 1, IGNORE]]])
    memory.enqueue(features, labels, straight)
    flat = features[0, :, 0].T
    wanted = [0, 1, 2] if queue == "faithful" else [0, 3, 4]  # the map's first pixels, or the class's own
    torch.testing.assert_close(memory.pixels_KPD[1, :3], flat[wanted])
    assert torch.equal(memory.pixels_KPD[1, 3:], before[1, 3:])
    region = functional.normalize(flat[[0, 3, 4]].mean(0), dim=0)
    torch.testing.assert_close(memory.regions_KRD[1, 0], region)
    assert memory.next_pixel_K.tolist() == [1, 3]
    assert memory.next_region_K.tolist() == [1, 1]


def test_a_full_ring_wraps_around_or_keeps_the_published_end() -> None:
    labels = torch.zeros(1, 1, 3, dtype=torch.int64)
    features = functional.normalize(drawn(1, 4, 1, 3, seed=1), dim=1).float()
    flat = features[0, :, 0].T
    rings = {}
    for queue in ("faithful", "corrected"):
        rings[queue] = ClassMemory(1, 4, pixels=5, regions=2, per_class=3, queue=queue)  # type: ignore[arg-type]
        for _ in range(2):
            rings[queue].enqueue(features, labels, straight)
    assert rings["faithful"].next_pixel_K.item() == 0
    torch.testing.assert_close(rings["faithful"].pixels_KPD[0], flat[[0, 1, 0, 1, 2]])
    assert rings["corrected"].next_pixel_K.item() == 1
    torch.testing.assert_close(rings["corrected"].pixels_KPD[0], flat[[2, 1, 2, 0, 1]])


def test_a_contrast_set_takes_the_same_slots_of_every_class() -> None:
    memory = ClassMemory(3, 2, pixels=4, regions=2, per_class=1, queue="faithful")
    contrast = memory.contrast_pixels(2, lambda count: torch.arange(count).flip(0))
    assert torch.equal(contrast, memory.pixels_KPD[:, [3, 2]].flatten(0, 1))


def test_all_pixels_ignored_gives_zero_memory_terms_and_an_untouched_memory() -> None:
    term = small_term()
    before = term.memory.pixels_KPD.clone()
    terms = term(inputs_for(torch.full((2, 6, 8), IGNORE)))
    total = terms["pixel"].value + terms["region"].value
    assert total.item() == 0
    gradients = torch.autograd.grad(total, list(term.projector.parameters()))
    assert all(gradient.count_nonzero() == 0 for gradient in gradients)
    assert torch.equal(term.memory.pixels_KPD, before)


def test_a_step_draws_from_its_own_generator_alone() -> None:
    labels = torch.arange(48).reshape(1, 6, 8).expand(2, 6, 8) % 2
    term = small_term(queue="corrected")
    start = {name: value.clone() for name, value in term.state_dict().items()}
    values = []
    for seed in (3, 3, 4):
        term.load_state_dict(start)
        terms = term(inputs_for(labels, seed))
        values.append(terms["pixel"].value.item())
    assert values[0] == values[1] != values[2]
    permutation = shared_permutations(torch.Generator().manual_seed(5))(50)
    assert sorted(permutation.tolist()) == list(range(50))


def test_memories_are_saved_and_terms_switched_off_bring_none() -> None:
    assert {"memory.pixels_KPD", "memory.next_region_K"} <= small_term().state_dict().keys()
    assert not list(small_term(lambda_pixel=0.0, lambda_region=0.0).state_dict())
    terms = small_term(lambda_batch=0.0, lambda_region=0.0)(
        inputs_for(torch.zeros(2, 6, 8, dtype=torch.int64))
    )
    assert list(terms) == ["pixel"]


def test_contrast_sets_are_as_large_as_published() -> None:
    facts = maps(num_classes=19)
    term = CrossImage(facts, pixel_memory=20, region_memory=5)
    assert term.sizes == {"pixel": 216, "region": 54}


@pytest.mark.parametrize(("dataset", "weight"), [("cityscapes", 0.1), ("voc", 0.01), (None, 0.1)])
def test_the_memory_terms_have_the_weights_of_the_dataset(dataset: str | None, weight: float) -> None:
    plan = parse_losses("cirkd", preset=dataset, task=SEGMENTATION)
    term = next(term for term in plan.terms if term.name == "cirkd")
    assert (term.options["lambda_pixel"], term.options["lambda_region"]) == (weight, weight)
    assert {term.label: term.weight for term in plan.terms} == {"task": 1.0, "cirkd": 1.0, "kd": 1.0}


def test_what_a_memory_cannot_be_is_refused_with_the_way_out() -> None:
    with pytest.raises(BadOption) as caught:
        CrossImage(maps(num_classes=0))
    assert caught.value.what == "the number of classes is not known"
    assert "cirkd(lambda_pixel=0,lambda_region=0)" in caught.value.fix
    with pytest.raises(BadOption) as caught:
        CrossImage(maps(), pixel_memory=8)
    assert caught.value.what == "16 pixels per image do not fit into a memory of 8"
    assert caught.value.where == "loss term 'cirkd'"
    assert caught.value.fix == "cirkd(pixel_memory=16) or more, or a smaller enqueue"


def _rank(rank: int, folder: str) -> None:
    """One of two ranks, with images and a generator of its own; writes what its memory holds afterwards."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    memory = ClassMemory(2, 5, pixels=9, regions=3, per_class=2, queue="corrected")
    for buffer in memory.buffers():
        dist.broadcast(buffer, src=0)
    teacher = functional.normalize(drawn(2, 5, 3, 4, seed=rank), dim=1).float()
    labels = torch.arange(24).reshape(2, 3, 4) % 2
    memory.enqueue(teacher, labels, shared_permutations(torch.Generator().manual_seed(rank)))
    torch.save((memory.state_dict(), teacher), f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_hold_the_same_memory_with_the_images_of_both(tmp_path: Path) -> None:
    processes.spawn(_rank, args=(str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    (mine, _), (theirs, others) = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert mine["next_pixel_K"].tolist() == [8, 8]  # two of each class from each of four images
    assert mine["next_region_K"].tolist() == [1, 1]
    even = others[1].flatten(1).T[::2]
    torch.testing.assert_close(mine["regions_KRD"][0, 0], functional.normalize(even.mean(0), dim=0))
