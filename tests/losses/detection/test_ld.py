"""LD as a term: whole scenes against plain loops, the valuable region of a batch, what has a gradient."""

import dense_by_hand as by_hand
import pytest
import torch
from dense_inputs import CANVAS, GFL, OBJECTS, Scene, dense_set, scene, truth_of

from kdcache.cache.positions import anchors, level_rows
from kdcache.cache.spec import BadOption, Need
from kdcache.losses.detection.regions import valuable_regions
from kdcache.losses.plan.plan import needs_of, parse_losses


def by_loop(given: Scene, *, T: float = 10.0, kd_T: float = 2.0) -> dict[str, float]:
    """The three terms without their weights, image after image and position after position."""
    matched, sizes = given.inputs.prepared, given.inputs.prepared.level_sizes
    sums = {"main": 0.0, "vlr": 0.0, "kd": 0.0}
    boxes = [[row[:4] for row in rows.tolist() if row[4] >= 0] for rows in given.inputs.truth]
    all_anchors = torch.cat(anchors(GFL, *CANVAS)).tolist()
    values = [by_hand.regions(all_anchors, objects, sizes) for objects in boxes]
    start = 0
    for level, size in enumerate(sizes):
        taps = {kind: GFL.groups[kind][level] for kind in ("bins", "cls")}
        ours, theirs = (
            {kind: level_rows(side[tap].detach(), 1) for kind, tap in taps.items()}
            for side in (given.inputs.student, given.inputs.teacher)
        )
        divergences = []
        for image in range(len(boxes)):
            for p in range(size):
                apart = by_hand.mean_divergence(
                    ours["bins"][image, p].reshape(4, -1), theirs["bins"][image, p].reshape(4, -1), T
                )
                best = max(by_hand.sigmoid(float(z)) for z in ours["cls"][image, p])
                sums["vlr"] += values[image][start + p] * sum(apart) / 16
                if matched.labels_BP[image, start + p] >= 0:
                    sums["main"] += best * sum(apart) / 4
                    pair = (side["cls"][image, p][None] for side in (ours, theirs))
                    divergences += by_hand.mean_divergence(*pair, kd_T)
        sums["kd"] += sum(divergences) / max(len(divergences), 1)
        start += size
    return sums


def term_values(expression: str, given: Scene) -> dict[str, float]:
    values = dense_set(expression, given.maps)(given.inputs)
    return {name.removeprefix("ld."): float(value) for name, value in values.unweighted.items()}


def test_a_whole_scene_is_what_a_loop_over_its_positions_gives() -> None:
    given = scene()
    wanted = by_loop(given)
    assert min(wanted.values()) > 0
    assert term_values("ld", given) == pytest.approx(wanted, rel=1e-5)
    total = float(dense_set("ld", given.maps)(given.inputs).total.detach())
    assert total == pytest.approx(0.25 * wanted["main"] + 0.25 * wanted["vlr"] + 10 * wanted["kd"], rel=1e-5)


def test_temperatures_and_weights_are_those_that_are_written() -> None:
    given = scene()
    wanted = by_loop(given, T=3.0, kd_T=5.0)
    assert term_values("ld(T=3,kd_T=5)", given) == pytest.approx(wanted, rel=1e-5)
    total = float(dense_set("ld(main=2,vlr=3,kd=4,T=3,kd_T=5)", given.maps)(given.inputs).total.detach())
    assert total == pytest.approx(2 * wanted["main"] + 3 * wanted["vlr"] + 4 * wanted["kd"], rel=1e-5)


def test_ld_alone_reads_no_classes_of_the_teacher() -> None:
    assert needs_of("ld", task="detection") == (Need(tap="bins"), Need(tap="cls"))
    assert needs_of("ld(vlr=0,kd=0)", task="detection") == (Need(tap="bins"),)
    (term,) = [t for t in parse_losses("ld(kd=0)", preset=None, task="detection").terms if t.name == "ld"]
    assert term.reads.student_taps == ("bins", "cls")
    given = scene()
    without = given.inputs._replace(
        teacher={tap: v for tap, v in given.inputs.teacher.items() if tap.startswith("bins")}
    )
    wanted = by_loop(given)["main"]
    assert term_values("ld(vlr=0,kd=0)", given._replace(inputs=without)) == pytest.approx({"main": wanted})


def test_the_score_that_weighs_the_bins_has_no_gradient() -> None:
    given = scene()
    dense_set("ld(kd=0)", given.maps)(given.inputs).total.backward()
    reached = {tap for tap, value in given.inputs.student.items() if value.grad is not None}
    assert reached == {"bins3", "bins4", "bins5"}


def test_the_main_term_is_not_divided_by_the_positives() -> None:
    given = scene()
    more = given.inputs._replace(prepared=given.inputs.prepared._replace(num_positives=torch.tensor(1e6)))
    assert term_values("ld", given._replace(inputs=more)) == term_values("ld", given)


def test_an_ignored_position_has_no_divergence_of_classes() -> None:
    given = scene()
    weights = torch.zeros_like(given.inputs.prepared.weights_BP)
    ignored = given.inputs._replace(prepared=given.inputs.prepared._replace(weights_BP=weights))
    assert term_values("ld", given._replace(inputs=ignored))["kd"] == 0


def test_the_region_is_that_of_each_image_whatever_the_padding_of_its_truth() -> None:
    given = scene()
    stray = torch.tensor([20.0, 10.0, 76.0, 58.0, -1.0]).expand(2, 3, 5)
    padded = given.inputs._replace(truth=torch.cat([given.inputs.truth, stray], 1))
    assert term_values("ld", given._replace(inputs=padded)) == term_values("ld", given)
    swapped = given.inputs._replace(truth=truth_of((OBJECTS[1], OBJECTS[0])))
    assert term_values("ld", given._replace(inputs=swapped))["vlr"] != term_values("ld", given)["vlr"]


def test_an_image_without_an_object_has_no_valuable_region() -> None:
    all_anchors = torch.cat(anchors(GFL, *CANVAS))
    sizes = tuple(len(level) for level in anchors(GFL, *CANVAS))
    region = valuable_regions(all_anchors, torch.zeros(0, 4), sizes)
    assert region.shape == (len(all_anchors),) and not region.any()


def test_the_region_surrounds_an_object_and_its_values_are_overlaps() -> None:
    sizes = tuple(len(level) for level in anchors(GFL, *CANVAS))
    region = valuable_regions(
        torch.cat(anchors(GFL, *CANVAS)), torch.tensor([[20.0, 10.0, 76.0, 58.0]]), sizes
    )
    assert 0 < (region > 0).sum() < sum(sizes) * 0.6
    assert region.max() < 1


def test_three_weights_of_zero_are_an_error() -> None:
    with pytest.raises(BadOption) as caught:
        dense_set("ld(main=0,vlr=0,kd=0)", scene().maps)
    assert str(caught.value).splitlines() == [
        "main=0, vlr=0 and kd=0 leave nothing to distil",
        "  where: loss term 'ld'",
        "  fix:   leave one of them out, for example ld(vlr=0,kd=0)",
    ]
