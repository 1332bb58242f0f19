"""Judging a student: in which precision, on which rank, which of two students, and which of them is kept.

A user would lose the right to compare runs: figures of another precision, of a share of the images, of a
student that is not the one in the folder.
"""

JUDGING = "tests/trainer/judge/test_judging_in_a_run.py"
SEGMENTATION = "tests/trainer/judge/test_segmentation.py"
CLASSIFICATION = "tests/trainer/judge/test_classification.py"
PRECISION = f"{JUDGING}::test_a_student_is_judged_in_the_precision_that_it_is_trained_in"
RANKS = f"{JUDGING}::test_two_ranks_judge_one_student_and_every_image_once"
BEST = f"{JUDGING}::test_the_best_judged_student_is_exported_whatever_comes_later"

MUTANTS = [
    ("a run in half precision judges in float32", "_validation", "amp=ranks.amp", "amp=None", PRECISION),
    (
        "the precision of a run is forgotten",
        "ranks_of",
        "PRECISIONS[accelerator.mixed_precision]",
        "None",
        PRECISION,
    ),
    (
        "every task is judged in float32 whatever is asked",
        "judge/judge:judge",
        "enabled=amp is not None",
        "enabled=False",
        PRECISION,
    ),
    (
        "a network judged alone is rounded to bfloat16",
        "judge_alone",
        "num_threads=num_threads,",
        "num_threads=num_threads, amp=torch.bfloat16,",
        f"{JUDGING}::test_a_network_judged_alone_computes_in_float32",
    ),
    (
        "half-precision logits are enlarged in half precision",
        "predict",
        "logits_BChw.float()",
        "logits_BChw",
        f"{JUDGING}::test_half_precision_logits_are_enlarged_in_float32",
    ),
    (
        "every rank judges with batch statistics of its own",
        "_share_buffers",
        "broadcast(buffer)",
        "broadcast(buffer.clone())",
        RANKS,
    ),
    ("two ranks count as one when buffers are shared", "_share_buffers", "world > 1", "world > 2", RANKS),
    (
        "the student of rank 1 is judged everywhere",
        "_share_buffers",
        "broadcast(buffer)",
        "broadcast(buffer, from_process=1)",
        RANKS,
    ),
    (
        "the figures of the ranks are averaged, not summed",
        "ranks_of",
        'reduction="sum"',
        'reduction="mean"',
        RANKS,
    ),
    (
        "every rank judges every image of a segmentation",
        "judge/judge:judge",
        "[rank::world]",
        "[0::1]",
        f"{SEGMENTATION} {RANKS}",
    ),
    (
        "the second rank's classified images take the rows of the first's",
        "judge/judge:judge",
        "group.places, answers",
        "groups[own.index(group)].places, answers",
        CLASSIFICATION,
    ),
    (
        "later batches of several ranks overwrite rows",
        "judge/judge:judge",
        "group.places, answers",
        "groups[rank + own.index(group)].places, answers",
        CLASSIFICATION,
    ),
    (
        "the raw student is judged, the averaged one exported",
        "Run._judge",
        "network = self.stepper.network",
        "network = self.stepper.module.student",
        f"{JUDGING}::test_the_averaged_student_is_judged_where_there_is_one_else_the_trained_one",
    ),
    (
        "the student stays in evaluation mode after it was judged",
        "Run._judge",
        "network.train(training)",
        "pass",
        f"{JUDGING}::test_judging_leaves_the_student_training",
    ),
    (
        "a worse student replaces a better one",
        "Run._judge",
        "metrics.score > best",
        "metrics.score < best",
        BEST,
    ),
    (
        "of two equal students the later one is exported",
        "Run._judge",
        "metrics.score > best",
        "metrics.score >= best",
        BEST,
    ),
    (
        "a score that is not a number is never beaten",
        "Run._judge",
        "math.isnan(best) or metrics.score > best",
        "self.best is None or metrics.score > best",
        BEST,
    ),
    (
        "a score that is not a number counts as the best",
        "Run._judge",
        "metrics.score > best",
        "not metrics.score <= best",
        BEST,
    ),
    (
        "the card names the wrong step for the best student",
        "Run._judge",
        '{"step": step, **self.last}',
        '{"step": step - 1, **self.last}',
        BEST,
    ),
    (
        "a student is judged with dropout",
        "evaluating",
        "network.eval()",
        "pass",
        "tests/trainer/judge/test_judge.py::"
        "test_a_network_is_evaluated_in_evaluation_mode_and_gets_its_modes_back",
    ),
    (
        "logits are enlarged without the corners on the corners",
        "predict",
        "align_corners=True",
        "align_corners=False",
        SEGMENTATION,
    ),
    (
        "a class that never occurs counts as zero in the mean",
        "judge/segmentation:metrics_of",
        "iou.nanmean()",
        "iou.nan_to_num(0.0).mean()",
        SEGMENTATION,
    ),
    ("calibration is measured in ten bins", "ECE_BINS", "15", "10", CLASSIFICATION),
    (
        "classified images of another size are not cut from the centre",
        "judge/classification:Judge.geometry",
        "0, y, x,",
        "0, 0, 0,",
        CLASSIFICATION,
    ),
]
