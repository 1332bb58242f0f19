"""Judging boxes: the view of an image, boxes back in its pixels, the truth as written, ranks, records."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from boxes_scene import CANVAS, CLASSES, BoxSamples, Says, decode, judged_boxes, truth_of
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

from kdcache.cache.errors import BadOption, BadSample
from kdcache.trainer import run as run_module
from kdcache.trainer.judge import detection
from kdcache.trainer.judge.detection import MOST, Judge
from kdcache.trainer.judge.judge import judge_of
from kdcache.trainer.judge.metrics import shown

Patch = pytest.MonkeyPatch


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((64, 96), (64, 96)),  # the canvas itself
        ((128, 96), (64, 48)),  # the height decides
        ((32, 96), (32, 96)),
        ((10, 100), (10, 96)),  # 9.6 rows are 10
        ((7, 5), (64, 46)),  # small images are enlarged: 45.7 columns are 46
        ((1, 5000), (1, 96)),  # never less than a row
    ],
)
def test_an_image_is_as_large_as_the_canvas_holds_it_at_the_top_left(
    size: tuple[int, int], resized: tuple[int, int]
) -> None:
    assert Judge(CLASSES).geometry(size, CANVAS) == (*resized, 0, 0, 0, *CANVAS)


def test_boxes_come_back_in_pixels_of_the_stored_image_and_are_cut_to_it(monkeypatch: Patch) -> None:
    """An image of 128 x 100 is 64 x 50 on the canvas: rows count 2, columns 2."""
    truths = [truth_of((20, 40, 60, 100, 1)), truth_of()]
    network = Says([[(10, 20, 30, 50, 0.9, 1), (40, 60, 90, 70, 0.5, 2)], []])
    metrics = judged_boxes(BoxSamples(truths, [(128, 100), (10, 100)]), network, monkeypatch)
    first, second = metrics.said
    assert (first.sample, second.sample, len(second.boxes_N4)) == (0, 1, 0)
    np.testing.assert_array_equal(first.boxes_N4, [[20, 40, 60, 100], [80, 120, 100, 128]])
    np.testing.assert_array_equal(first.classes_N, [1, 2])
    np.testing.assert_array_equal(first.scores_N.astype(np.float32), np.float32([0.9, 0.5]))
    assert metrics.per_class["disc"] == 1.0 and metrics.num_images == 2


def test_rows_and_columns_have_scales_of_their_own(monkeypatch: Patch) -> None:
    """10 x 100 pixels are 10 x 96 on the canvas, because 9.6 rows are 10: rows count 1, columns 100 / 96."""
    samples = BoxSamples([truth_of((25, 2, 50, 8, 0))], [(10, 100)])
    metrics = judged_boxes(samples, Says([[(24, 2, 48, 8, 0.9, 0)]]), monkeypatch)
    np.testing.assert_allclose(metrics.said[0].boxes_N4, [[25, 2, 50, 8]], rtol=1e-12)


def test_the_truth_is_what_the_data_set_says_and_not_what_the_view_shows(monkeypatch: Patch) -> None:
    """Crowds, own areas, and objects that are smaller than a pixel on the canvas."""
    crowd, masked, tiny = (0, 0, 500, 500, 0, 1), (700, 0, 800, 100, 0, 0, 900), (600, 600, 610, 610, 1)
    samples = BoxSamples([truth_of(crowd, masked, tiny)], [(640, 960)])
    said = [(1, 1, 9, 9, 0.95, 0), (70, 0, 80, 10, 0.9, 0), (60, 60, 61, 61, 0.8, 1)]
    metrics = judged_boxes(samples, Says([said]), monkeypatch)
    assert metrics.per_class == {"cell": 1.0, "disc": 1.0, "rod": pytest.approx(math.nan, nan_ok=True)}
    assert metrics.figures.ap_small == 1.0 and math.isnan(metrics.figures.ap_medium)


def drawn(num: int = 7) -> tuple[BoxSamples, Says]:
    """Images of several sizes, each with objects that some boxes of the network nearly meet."""
    rng = np.random.default_rng(5)
    truths, rows = [], []
    for _ in range(num):
        corners = rng.uniform(0, 40, (4, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(4, 24, (4, 2))], axis=1)
        kinds = rng.integers(0, 3, 4)
        truths.append(truth_of(*np.concatenate([boxes, kinds[:, None]], axis=1).tolist()))
        moved = boxes + rng.normal(0, 1.5, boxes.shape)
        rows.append(np.concatenate([moved, rng.random((4, 1)), kinds[:, None]], axis=1).tolist())
    return BoxSamples(truths), Says(rows)


def test_two_ranks_answer_the_bits_of_one_and_every_image_counts_once(monkeypatch: Patch) -> None:
    samples, network = drawn()
    alone = judged_boxes(samples, network, monkeypatch, batch_size=2)
    tables: list[Tensor] = []
    for rank in (0, 1):  # each rank's own table, then both with the sum
        judged_boxes(samples, network, monkeypatch, batch_size=2, rank=rank, world=2,
                     reduce=lambda table: tables.append(table.clone()) or table)  # fmt: skip
    one, bad, other, bad_too = tables
    assert not (one * other).any(), "an image was judged twice"
    for rank in (0, 1):
        sums = iter([one + other, bad + bad_too])
        together = judged_boxes(samples, network, monkeypatch, batch_size=2, rank=rank, world=2,
                                reduce=lambda table, sums=sums: next(sums))  # fmt: skip
        assert together.figures == alone.figures and together.per_class == alone.per_class
        assert 0 < alone.score < 1


def test_batches_of_any_size_answer_the_same(monkeypatch: Patch) -> None:
    samples, network = drawn()
    figures = {judged_boxes(samples, network, monkeypatch, batch_size=n).figures for n in (1, 3, 7)}
    assert len(figures) == 1


def test_the_best_hundred_boxes_of_an_image_count(monkeypatch: Patch) -> None:
    wrong = [(50, 50, 60, 60, 0.5, 2)] * MOST
    for score, recall in ((0.6, 1.0), (0.4, 0.0)):
        network = Says([[*wrong, (0, 0, 10, 10, score, 0)]])
        metrics = judged_boxes(BoxSamples([truth_of((0, 0, 10, 10, 0))]), network, monkeypatch)
        assert len(metrics.said[0].boxes_N4) == MOST and metrics.figures.ar100 == recall


def test_a_class_that_the_network_does_not_know_is_refused_by_name(monkeypatch: Patch) -> None:
    samples = BoxSamples([truth_of((0, 0, 10, 10, 0)), truth_of((0, 0, 9, 9, 1), (0, 0, 9, 9, 3))])
    with pytest.raises(BadSample) as refused:
        judged_boxes(samples, Says([[], []]), monkeypatch)
    assert str(refused.value.what) == "an object of 'drawn/1' has class 3, the network knows classes 0..2"
    assert "evaluate a network of as many classes" in refused.value.fix


def test_a_network_without_a_pyramid_of_boxes_is_refused(monkeypatch: Patch) -> None:
    with pytest.raises(BadOption) as refused:
        judged_boxes(BoxSamples([truth_of()]), nn.Identity(), monkeypatch)
    assert refused.value.what.startswith("this network answers no dense maps of boxes")
    assert "--student gfl:r18" in refused.value.fix


def test_a_wrapped_network_is_read_by_its_own_grid(monkeypatch: Patch) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = Says([[(0, 0, 10, 10, 0.9, 0)]])

        def forward(self, images_BHWC: Tensor, taps: tuple[str, ...]) -> dict[str, Tensor]:
            answers: dict[str, Tensor] = self.module(images_BHWC, taps)
            return answers

    metrics = judged_boxes(BoxSamples([truth_of((0, 0, 10, 10, 0))]), Wrapped(), monkeypatch)
    assert metrics.score == 1.0


def test_a_teacher_beside_the_network_is_refused_with_the_reason(monkeypatch: Patch) -> None:
    network = Says([[]])
    with pytest.raises(BadOption) as refused:
        judged_boxes(BoxSamples([truth_of()]), network, monkeypatch, teacher=network)
    assert "boxes are compared by their own average precision" in refused.value.what
    assert refused.value.where == "--teacher" and refused.value.fix == "leave --teacher out"


def test_figures_are_shown_in_percent(monkeypatch: Patch) -> None:
    samples, network = drawn(2)
    named = judged_boxes(samples, network, monkeypatch).named()
    assert list(named) == ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar100"]
    assert shown("best/ap", 0.4321) == "43.21 %"


def test_records_are_results_that_pycocotools_judges_alike(
    monkeypatch: Patch, tmp_path: Path, capsys: Any
) -> None:
    samples, network = drawn()
    metrics = judged_boxes(samples, network, monkeypatch)
    image_ids = [90 - 7 * n for n in range(7)]
    numbered = SimpleNamespace(image_id=image_ids.__getitem__, category_ids=[1, 18, 90])
    results = judge_of("detection", CLASSES).records(metrics, numbered)  # type: ignore[arg-type]
    (tmp_path / "boxes.json").write_text(json.dumps(results))
    annotations = [
        {"id": 1000 * image + number, "image_id": image_ids[image], "iscrowd": 0, "area": row[6],
         "category_id": numbered.category_ids[int(row[4])], "bbox": [*row[:2], *(row[2:4] - row[:2])]}
        for image, truth in enumerate(samples.truths) for number, row in enumerate(truth, 1)
    ]  # fmt: skip
    truth = COCO()
    truth.dataset = {"images": [{"id": n} for n in image_ids], "annotations": annotations,
                     "categories": [{"id": n} for n in numbered.category_ids], "info": {}}  # fmt: skip
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "boxes.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    wanted = [math.nan if value == -1 else float(value) for value in evaluation.stats]
    np.testing.assert_allclose(list(metrics.figures), wanted, rtol=1e-12)
    assert len(results) == 28 and set(results[0]) == {"image_id", "category_id", "bbox", "score"}


def test_records_of_a_source_without_numbers_go_by_its_keys(monkeypatch: Patch) -> None:
    metrics = judged_boxes(BoxSamples([truth_of()]), Says([[(1, 2, 11, 22, 0.5, 2)]]), monkeypatch)
    (record,) = judge_of("detection", CLASSES).records(metrics, SimpleNamespace(keys=("val/a",)))  # type: ignore[arg-type]
    assert record == {"image_id": "val/a", "category_id": 2, "bbox": [1, 2, 10, 20], "score": 0.5}


def test_a_picture_draws_the_sure_boxes_on_the_image(monkeypatch: Patch) -> None:
    monkeypatch.setattr(detection, "_decode", lambda: decode)
    network = Says([[(8, 8, 40, 40, 0.31, 0), (50, 8, 90, 60, 0.29, 1)]])
    counting = Judge(CLASSES)
    counting.meet(network, CANVAS)
    image_HWC = np.full((*CANVAS, 3), 200, dtype=np.uint8)
    answers = network(torch.zeros(1, *CANVAS, 3, dtype=torch.uint8), counting.taps)
    picture = counting.picture(answers, image_HWC)
    times = picture.shape[1] // image_HWC.shape[1]  # a small picture is enlarged before letters lie on it
    changed_HW = (picture != 200).any(-1)
    assert changed_HW[8 * times : 40 * times, 8 * times].all()
    for edge in (8 * times, 40 * times - 1):
        assert changed_HW[edge, 8 * times : 40 * times].all()
    changed_HW = changed_HW.reshape(CANVAS[0], times, CANVAS[1], times).any((1, 3))
    assert not changed_HW[:, 50:].any() and not changed_HW[42:].any()
    assert not changed_HW[30:38, 12:38].any(), "the inside keeps its pixels"


def test_a_run_of_a_detector_is_judged_with_the_records_of_its_images(
    monkeypatch: Patch, tmp_path: Path
) -> None:
    """The steps of `kdtrain eval RUN --json`, with a run and a source that stand in for those on disk."""
    samples = BoxSamples([truth_of((0, 0, 10, 10, 0)), truth_of()], [(128, 192), CANVAS])
    said: list[Any] = [[(0, 0, 5, 5, 0.5, 0)], []]
    source = cast(Any, samples)
    source.refuse_unusable = lambda: None
    source.class_names, source.image_id, source.category_ids = CLASSES, [31, 17].__getitem__, [4, 5, 6]
    card = SimpleNamespace(class_names=CLASSES, crop=CANVAS, data="coco:d", task="detection")
    monkeypatch.setattr(detection, "_decode", lambda: decode)
    for name, value in {
        "find_run": lambda home, run: tmp_path,
        "read_run_card": lambda path: card,
        "open_source": lambda spec, split: source,
        "load_run_network": lambda path: Says(said),
        "_judging_data": lambda run_dir, card, split: card.data,
    }.items():
        monkeypatch.setattr(run_module, name, value)
    judged = run_module.evaluate_run(
        "r", home=tmp_path, data=None, split="val", with_records=True, device="cpu"
    )
    wanted = {"image_id": 31, "category_id": 4, "bbox": [0, 0, 10, 10], "score": 0.5}
    assert list(judged.records) == [wanted] and judged.metrics.score == 1.0
    plain = run_module.evaluate_run("r", home=tmp_path, data=None, split="val", device="cpu")
    assert list(plain.records) == []
