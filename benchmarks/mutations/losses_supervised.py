"""The supervised loss: which pixels count, at which size, the auxiliary head, the labels of mixed images."""


def golden(name: str, number: int = 0) -> str:
    test = "test_values_and_gradients_are_those_of_the_published_code"
    return f"tests/losses/test_golden.py::{test}[golden-segmentation/{name}-c{number}-float64]"


SET, TASKS = "tests/losses/test_loss_set.py::", "tests/losses/test_tasks.py::"
BY_HAND = "tests/losses/test_supervised_by_hand.py"
MUTANTS = [
    (
        "logits are enlarged without aligned corners",
        "segmentation_ce",
        "align_corners=True",
        "align_corners=False",
        golden("seg_ce"),
    ),
    (
        "logits are enlarged by the nearest cell",
        "segmentation_ce",
        'mode="bilinear", align_corners=True',
        'mode="nearest"',
        golden("seg_ce"),
    ),
    (
        "ignored pixels weigh in the mean",
        "segmentation_ce",
        "(labels_BHW != ignore).sum().clamp(min=1)",
        "labels_BHW.numel()",
        golden("seg_ce"),
    ),
    (
        "a crop of ignored pixels ends a run",
        "segmentation_ce",
        ".clamp(min=1)",
        "",
        SET + "test_a_crop_of_ignored_pixels_gives_zero_and_a_zero_gradient",
    ),
    (
        "the mark for ignored pixels is a class",
        "segmentation_ce",
        "ignore_index=ignore",
        "ignore_index=-100",
        golden("seg_ce"),
    ),
    (
        "the auxiliary head weighs as much as the main one",
        "SegmentationTask.forward",
        "Weighted(aux, self.aux_weight)",
        "Weighted(aux, 1.0)",
        golden("afdcd_objective"),
    ),
    (
        "the auxiliary head is not supervised",
        "SegmentationTask.forward",
        'segmentation_ce(inputs.student["aux"], inputs.labels)',
        'segmentation_ce(inputs.student["logits"], inputs.labels)',
        golden("afdcd_objective"),
    ),
    (
        "a head that is switched off is run all the same",
        "SegmentationTask.reads",
        'cls.optional_taps if options["aux_weight"] else ()',
        "cls.optional_taps",
        "tests/losses/test_plan.py::test_needs_and_taps_are_listed_once_and_dropped_terms_need_nothing",
    ),
    (
        "the auxiliary head counts 0.5",
        "SegmentationTask.__init__",
        "= 0.4",
        "= 0.5",
        golden("afdcd_objective"),
    ),
    (
        "both labels of a mixed image count alike",
        "classification_ce",
        "share_B * own + (1 - share_B) * other",
        "(own + other) / 2",
        TASKS + "test_the_labels_of_a_mixed_image_count_by_their_shares",
    ),
    (
        "the labels of a mixed image are exchanged",
        "classification_ce",
        "share_B * own + (1 - share_B) * other",
        "(1 - share_B) * own + share_B * other",
        TASKS + "test_the_labels_of_a_mixed_image_count_by_their_shares",
    ),
    (
        "the second label of a mixed image is not smoothed",
        "classification_ce",
        'mixed.labels_B, reduction="none", label_smoothing=smoothing)',
        'mixed.labels_B, reduction="none")',
        BY_HAND,
    ),
    (
        "the task loss is summed over the images",
        "classification_ce",
        "return own.mean()",
        "return own.sum()",
        BY_HAND,
    ),
    (
        "label smoothing is not passed on",
        "ClassificationTask.forward",
        "inputs.mixed, smoothing=self.smoothing",
        "inputs.mixed",
        BY_HAND,
    ),
    (
        "a mixed image counts by its first label alone",
        "ClassificationTask.forward",
        "inputs.mixed, smoothing",
        "None, smoothing",
        BY_HAND,
    ),
    (
        "quarter turns are supervised too",
        "ClassificationTask.forward",
        'plain_rows(inputs, v) for v in (inputs.student["logits"], inputs.labels)',
        'v for v in (inputs.student["logits"], inputs.labels)',
        TASKS + "test_only_the_plain_rows_of_quarter_turns_are_supervised",
    ),
]
