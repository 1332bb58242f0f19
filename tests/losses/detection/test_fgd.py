"""FGD as a term: cells of objects, settings per detector, learned context blocks, levels."""

import pytest
import torch
from dense_inputs import CANVAS, FCOS, GFL, GRIDS, dense_set, scene, truth_of
from torch import Tensor

from kdcache.cache.grid import DenseGrid
from kdcache.losses.contract import Maps
from kdcache.losses.detection.fgd import ContextBlock, FocalGlobal, object_masks
from kdcache.losses.plan.plan import parse_losses

ONE_STAGE = (0.5, 1e-3, 5e-4, 5e-4, 5e-6)


def masks_of(*boxes: tuple[float, ...], cells: tuple[int, int] = (4, 6)) -> tuple[Tensor, Tensor]:
    """Of one image on the canvas of 64 x 96 pixels, 16 of which are a cell."""
    objects, background = object_masks(truth_of((tuple((*box, 0) for box in boxes),)), cells, CANVAS)
    return objects[0], background[0]


def test_an_object_covers_the_cells_from_floor_to_ceil_inclusive_each_with_its_share() -> None:
    objects, background = masks_of((20, 10, 40, 30))  # columns 1.25 to 2.5, rows 0.625 to 1.875
    wanted = torch.zeros(4, 6)
    wanted[0:3, 1:4] = 1 / 9
    torch.testing.assert_close(objects, wanted)
    torch.testing.assert_close(background, (wanted == 0).float() / 15)


def test_cells_are_counted_before_the_map_cuts_them() -> None:
    objects, _ = masks_of((80, 48, 96, 64))  # columns 5 to 6, rows 3 to 4: one cell of four is on the map
    assert objects.sum() == pytest.approx(1 / 4) and objects[3, 5] == pytest.approx(1 / 4)


def test_where_objects_meet_the_smaller_one_counts() -> None:
    objects, _ = masks_of((0, 0, 95, 63), (33, 17, 47, 31))
    assert objects[1, 2] == pytest.approx(1 / 4) and objects[0, 0] == pytest.approx(1 / 35)


def test_a_map_full_of_objects_has_no_background_and_one_without_has_nothing_else() -> None:
    objects, background = masks_of((0, 0, 96, 64))
    assert not background.any() and objects.all()
    objects, background = masks_of()
    assert not objects.any()
    torch.testing.assert_close(background, torch.full((4, 6), 1 / 24))


def test_padding_is_no_object() -> None:
    truth = truth_of((((20.0, 10.0, 40.0, 30.0, 0),),))
    stray = torch.tensor([[[50.0, 40.0, 80.0, 60.0, -1.0]]])
    alone, padded = (object_masks(t, (4, 6), CANVAS) for t in (truth, torch.cat([truth, stray], 1)))
    assert torch.equal(alone.objects, padded.objects) and torch.equal(alone.background, padded.background)


@pytest.mark.parametrize("detector", GRIDS)
def test_settings_are_those_published_for_the_detector_and_fcos_has_its_own(detector: str) -> None:
    losses = dense_set("fgd", scene(GRIDS[detector]).maps)
    term = losses.terms["fgd"]
    assert isinstance(term, FocalGlobal)
    assert tuple(term.settings) == (ONE_STAGE if detector != "fcos" else (0.8, 1.6e-3, 8e-4, 8e-4, 8e-6))
    assert [note for note in losses.notes if "settings published for fcos students" in note] == (
        list(losses.notes) if detector == "fcos" else []
    )


def test_what_is_written_wins_over_what_is_published_for_the_detector() -> None:
    term = dense_set("fgd(temp=2,alpha=1,beta=0)", scene(FCOS).maps).terms["fgd"]
    assert isinstance(term, FocalGlobal)
    assert tuple(term.settings) == (2.0, 1.0, 0.0, 8e-4, 8e-6)


def test_every_term_enters_with_its_weight() -> None:
    given = scene()
    values = dense_set("fgd(alpha=2,beta=3,gamma=5,relation=7)", given.maps)(given.inputs)
    bare = values.unweighted
    wanted = 2 * bare["fgd.fg"] + 3 * bare["fgd.bg"] + 5 * bare["fgd.mask"] + 7 * bare["fgd.rela"]
    assert values.total.item() == pytest.approx(wanted.item())


def test_levels_are_summed_each_with_learned_parts_of_its_own() -> None:
    given = scene(channels=(6, 8))
    torch.manual_seed(0)
    losses = dense_set("fgd", given.maps)
    term = losses.terms["fgd"]
    assert isinstance(term, FocalGlobal) and len(term.levels) == 3
    values = []
    for tap, level in zip(GFL.groups["fpn"], term.levels, strict=True):
        teacher = given.inputs.teacher[tap]
        masks = object_masks(given.inputs.truth, (teacher.shape[2], teacher.shape[3]), CANVAS)
        values.append(level(given.inputs.student[tap], teacher, masks))
    together = losses(given.inputs).unweighted
    torch.testing.assert_close(torch.stack(list(together.values())), torch.stack(values).sum(0).detach())


def test_the_context_blocks_begin_as_nothing_and_both_learn() -> None:
    torch.manual_seed(0)
    block = ContextBlock(8)
    features = torch.randn(2, 8, 3, 5)
    assert torch.equal(block(features), features)
    assert block.attend.weight.std().item() == pytest.approx((2 / 8) ** 0.5, rel=0.6)
    given = scene(channels=(6, 8), dtype=torch.float32)
    losses = dense_set("fgd", given.maps, torch.float32)
    for parameter in losses.parameters():
        with torch.no_grad():
            parameter.normal_(std=0.5)
    losses(given.inputs).total.backward()
    names = {name for name, p in losses.named_parameters() if p.grad is not None and p.grad.any()}
    # A softmax does not see what is added to all of its scores.
    blind = {name for name, _ in losses.named_parameters() if name.endswith("attend.bias")}
    assert len(blind) == 6 and names | blind == {name for name, _ in losses.named_parameters()}


def test_equal_features_differ_in_nothing_where_the_blocks_are_new() -> None:
    given = scene()
    same = given.inputs._replace(teacher={tap: v.detach() for tap, v in given.inputs.student.items()})
    assert float(dense_set("fgd", given.maps)(same).total.detach()) == 0


def test_the_gradient_reaches_the_student_s_attention() -> None:
    """With the mask's term alone nothing but the attention can carry it."""
    given = scene()
    losses = dense_set("fgd(alpha=0,beta=0,relation=0)", given.maps)
    losses(given.inputs).total.backward()
    slopes = [given.inputs.student[tap].grad for tap in GFL.groups["fpn"]]
    assert all(slope is not None and slope.any() for slope in slopes)


def test_its_own_weights_are_clipped_as_published() -> None:
    assert dense_set("fgd", scene().maps).clip_norm == 35


def test_an_image_of_another_size_than_the_run_s_is_no_matter_without_a_grid() -> None:
    """Bare taps need no grid: the canvas is what the run says."""
    given = scene()
    bare = Maps(given.maps.student, given.maps.teacher, given.maps.facts)
    plan = parse_losses("fgd(taps=p3/p4/p5)", preset=None, task="detection")
    (term,) = [t for t in plan.terms if t.name == "fgd"]
    assert term.reads.student_taps == ("p3", "p4", "p5")
    torch.manual_seed(0)
    one = dense_set("fgd(taps=p3/p4/p5)", bare)(given.inputs)
    torch.manual_seed(0)
    other = dense_set("fgd", given.maps)(given.inputs)
    assert one.total.item() == other.total.item()


def test_the_canvas_follows_from_the_finest_level_where_the_run_says_none() -> None:
    given = scene()
    silent = given.maps._replace(facts=given.maps.facts._replace(input_size=(0, 0)))
    term = dense_set("fgd", silent).terms["fgd"]
    assert isinstance(term, FocalGlobal) and term.canvas == CANVAS


def test_a_teacher_of_two_stages_is_compared_at_the_strides_that_both_have() -> None:
    teacher = DenseGrid(levels=(2, 3, 4), strides=(4, 8, 16))
    losses = dense_set("fgd", scene(GFL, teacher).maps)
    term = losses.terms["fgd"]
    assert isinstance(term, FocalGlobal) and [pair.student for pair in term.pairs] == ["p3", "p4"]
    assert losses.notes == (
        "features are compared at strides 8, 16; stride 32 of the student has no teacher; "
        "stride 4 of the teacher has no student",
    )
