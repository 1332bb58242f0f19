"""What two grids must share, each error by its whole text, and which levels are compared."""

from dataclasses import replace

import pytest
from dense_inputs import ATSS, CANVAS, FCOS, GFL, RETINANET, dense_set, specs_of

from kdcache.cache.grid import DenseGrid
from kdcache.cache.spec import BadOption, TensorSpec
from kdcache.cache.tasks.table import DETECTION
from kdcache.losses.contract import Facts, Maps
from kdcache.losses.detection.match import TapPair, canvas_of, same_levels, shared_levels, tap_pairs

TWO_STAGE = DenseGrid(levels=(2, 3, 4, 5), strides=(4, 8, 16, 32))
WIDER = DenseGrid(levels=(3, 4, 5, 6), strides=(8, 16, 32, 64), num_bins=9)
FAR = DenseGrid(levels=(6, 7), strides=(64, 128), num_bins=9)
POSITIONS = ", which compares position by position"


def maps_of(
    student: DenseGrid | None,
    teacher: DenseGrid | None,
    *,
    classes: tuple[int, int] = (5, 5),
    channels: tuple[int, int] = (8, 8),
    names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
) -> Maps:
    facts = Facts(DETECTION, classes[0], input_size=CANVAS, class_names=names[0], teacher_classes=names[1])
    sides = [
        specs_of(grid or GFL, classes=count, channels=width)
        for grid, count, width in zip((student, teacher), classes, channels, strict=True)
    ]
    return Maps(*sides, facts, student, teacher)


def refused(expression: str, maps: Maps) -> list[str]:
    """The three parts of the error."""
    with pytest.raises(BadOption) as caught:
        dense_set(expression, maps)
    return [caught.value.what, caught.value.where, caught.value.fix]


@pytest.mark.parametrize(
    ("ours", "theirs", "what"),
    [
        (("cat", "dog"), ("cat", "cow"), "class 1 is 'dog' in the data and 'cow' of the teacher"),
        (("cat", "dog"), ("dog", "cat"), "class 0 is 'cat' in the data and 'dog' of the teacher"),
        (("cat", "dog"), ("cat",), "the data has 2 classes and the teacher scores 1"),
        (("cat",), ("cat", "dog"), "the data has 1 classes and the teacher scores 2"),
    ],
)
@pytest.mark.parametrize("loss", ["bckd", "gid", "ld", "cwd"])
def test_other_classes_or_another_order_are_refused_where_scores_are_compared(
    loss: str, ours: tuple[str, ...], theirs: tuple[str, ...], what: str
) -> None:
    counts = len(ours), len(theirs)
    assert refused(loss, maps_of(GFL, GFL, classes=counts, names=(ours, theirs))) == [
        what,
        f"loss term '{loss}', which compares scores class by class",
        "train the teacher on these classes, or distil features: --loss pkd",
    ]


@pytest.mark.parametrize("loss", ["pkd", "fgd", "mgd", "ld(kd=0)"])
def test_other_classes_are_no_matter_where_no_score_is_compared(loss: str) -> None:
    dense_set(loss, maps_of(GFL, GFL, classes=(2, 3), names=(("a", "b"), ("x", "y", "z"))))


def test_other_numbers_of_scores_are_refused_where_nobody_named_the_classes() -> None:
    assert refused("bckd", maps_of(RETINANET, RETINANET, classes=(5, 7))) == [
        "the student scores 5 classes and the teacher 7",
        "loss term 'bckd', tap 'cls3'",
        "train the teacher on these classes, or distil features: --loss pkd",
    ]
    dense_set("bckd", maps_of(GFL, GFL, names=(("a", "b", "c", "d", "e"), ())))


@pytest.mark.parametrize("loss", ["bckd", "ld", "gid", "cwd"])
def test_other_levels_are_refused_where_positions_are_compared(loss: str) -> None:
    assert refused(loss, maps_of(GFL, replace(TWO_STAGE, num_bins=9))) == [
        "the student has strides 8, 16, 32, the teacher strides 4, 8, 16, 32",
        f"loss term '{loss}'{POSITIONS}",
        "take a teacher with the student's levels, or a loss that compares shared ones: --loss pkd",
    ]


@pytest.mark.parametrize("loss", ["bckd", "gid", "cwd"])
def test_other_anchors_are_refused_where_positions_are_compared(loss: str) -> None:
    assert refused(loss, maps_of(RETINANET, FCOS)) == [
        "anchors per cell: 9 of the student and 1 of the teacher",
        f"loss term '{loss}'{POSITIONS}",
        "take teacher and student of one family: retinanet with retinanet; gfl with gfl, fcos or atss; "
        "or distil features: --loss pkd",
    ]


@pytest.mark.parametrize(
    ("student", "teacher", "counts"),
    [
        (GFL, FCOS, "9 of the student and none of the teacher"),
        (FCOS, GFL, "none of the student and 9 of the teacher"),
        (ATSS, FCOS, "none of the student and none of the teacher"),
        (GFL, replace(GFL, num_bins=17), "9 of the student and 17 of the teacher"),
    ],
)
def test_ld_needs_equal_bins_on_both_sides(student: DenseGrid, teacher: DenseGrid, counts: str) -> None:
    assert refused("ld", maps_of(student, teacher)) == [
        f"bins per side of a box: {counts}",
        "loss term 'ld'",
        "ld needs gfl on both sides; bckd distils boxes without bins: --loss bckd",
    ]


def test_what_the_error_of_the_bins_advises_works() -> None:
    dense_set("bckd", maps_of(GFL, FCOS))
    dense_set("bckd", maps_of(ATSS, FCOS))


@pytest.mark.parametrize("loss", ["pkd", "fgd", "mgd", "gdd", "at", "fitnet", "cwd(taps=fpn)", "gid"])
def test_features_without_any_shared_stride_are_refused(loss: str) -> None:
    maps = maps_of(GFL, FAR)
    if loss == "gid":
        return  # refused before, for its scores
    assert refused(loss, maps) == [
        "the student has strides 8, 16, 32, the teacher strides 64, 128: no level of features is shared",
        f"loss term '{loss.partition('(')[0]}'",
        "take networks with a level of the same stride, such as --student gfl:r18 --teacher gfl:r50",
    ]


@pytest.mark.parametrize(
    ("student", "teacher", "side", "option"),
    [(None, GFL, "student", "--student"), (GFL, None, "teacher", "--teacher")],
)
@pytest.mark.parametrize("loss", ["bckd", "ld", "gid", "pkd", "fgd", "mgd"])
def test_a_side_without_levels_is_refused(
    loss: str, student: DenseGrid | None, teacher: DenseGrid | None, side: str, option: str
) -> None:
    assert refused(loss, maps_of(student, teacher)) == [
        f"the {side} says no levels and strides, so its maps have no places on the image",
        f"loss term '{loss}'",
        f"take a dense detector: {option} gfl:r18, retinanet:r18, fcos:r18 or atss:r18",
    ]


def test_a_kind_of_map_that_a_side_does_not_answer_is_refused() -> None:
    assert refused("at(taps=ctr)", maps_of(GFL, FCOS)) == [
        "the student answers fpn, cls, box, bins per level, no ctr",
        "loss term 'at'",
        "name one that both sides answer: at(taps=cls)",
    ]
    dense_set("at(taps=cls)", maps_of(GFL, FCOS))


def test_features_of_other_channels_are_refused_by_pkd_alone() -> None:
    maps = maps_of(GFL, GFL, channels=(6, 8))
    assert refused("pkd", maps)[0] == "student tap 'p3' has 6 channels but the teacher's has 8"
    for loss in ("fgd", "mgd", "gdd", "at", "fitnet", "cwd(taps=fpn)", "gid"):
        dense_set(loss, maps)


def test_maps_of_another_canvas_are_refused() -> None:
    maps = maps_of(GFL, GFL)
    other = maps._replace(
        teacher={tap: TensorSpec((5, 5, s.channels), s.stride) for tap, s in maps.teacher.items()}
    )
    for loss, tap in (("pkd", "p3"), ("bckd", "cls3")):
        assert refused(loss, other)[0] == (
            f"student tap '{tap}' is 8x12 (stride 8) but the teacher's is 5x5 (stride 8)"
        )


def test_shared_strides_are_used_and_said_once_for_all_losses() -> None:
    teacher = maps_of(WIDER, TWO_STAGE)
    pairs, notes = shared_levels("pkd", teacher)
    assert pairs == (TapPair("p3", "p3"), TapPair("p4", "p4"), TapPair("p5", "p5"))
    said = (
        "features are compared at strides 8, 16, 32; stride 64 of the student has no teacher; "
        "stride 4 of the teacher has no student"
    )
    assert notes == (said,)
    assert dense_set("pkd+fgd+mgd", teacher).notes == (said,)
    assert shared_levels("pkd", maps_of(GFL, RETINANET)).notes == ()


def test_levels_are_paired_by_stride_and_not_by_their_number() -> None:
    shifted = replace(GFL, levels=(1, 2, 3))
    pairs, _ = shared_levels("pkd", maps_of(GFL, shifted))
    assert pairs == (TapPair("p3", "p1"), TapPair("p4", "p2"), TapPair("p5", "p3"))
    taps, _ = same_levels("bckd", maps_of(GFL, shifted), "cls")
    assert taps == (TapPair("cls3", "cls1"), TapPair("cls4", "cls2"), TapPair("cls5", "cls3"))


def test_bare_taps_and_groups_stand_side_by_side() -> None:
    pairs, _ = tap_pairs("at", maps_of(GFL, GFL), "p4/cls")
    assert [pair.student for pair in pairs] == ["p4", "cls3", "cls4", "cls5"]
    with pytest.raises(BadOption, match="the option names no tap"):
        tap_pairs("at", maps_of(GFL, GFL), "/")


def test_the_canvas_is_what_the_run_says_or_that_of_the_finest_level() -> None:
    maps = maps_of(GFL, GFL)
    assert canvas_of(maps._replace(facts=Facts(input_size=(7, 9)))) == (7, 9)
    assert canvas_of(maps._replace(facts=Facts())) == CANVAS
    coarse = Maps(specs_of(WIDER, canvas=(96, 160)), {}, Facts(), WIDER, WIDER)  # stride 64 has 2 x 3 cells
    assert canvas_of(coarse) == (96, 160)
    classes = {tap: spec for tap, spec in maps.student.items() if tap.startswith("cls")}
    assert canvas_of(maps._replace(facts=Facts(), student=classes)) == CANVAS
