"""The supervised loss: which pixels count, at which size, the auxiliary head, the labels of mixed images."""


def golden(name: str, number: int = 0) -> str:
    test = "test_values_and_gradients_are_those_of_the_published_code"
    return f"tests/losses/test_golden.py::{test}[golden-segmentation/{name}-c{number}-float64]"


SET, CLASSES = "tests/losses/test_loss_set.py::", "tests/losses/supervised/test_classification.py::"
BY_HAND = CLASSES + "test_the_task_loss_is_the_mean_entropy_of_smoothed_labels_by_their_shares"
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
        "counted_pixels",
        "(labels_BHW != ignore).sum()",
        "(labels_BHW == labels_BHW).sum()",
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
        "supervised/segmentation:Supervised.forward",
        "Weighted(aux, self.aux_weight)",
        "Weighted(aux, 1.0)",
        golden("afdcd_objective"),
    ),
    (
        "the auxiliary head is not supervised",
        "supervised/segmentation:Supervised.forward",
        'segmentation_ce(inputs.student["aux"],',
        'segmentation_ce(inputs.student["logits"],',
        golden("afdcd_objective"),
    ),
    (
        "a head that is switched off is run all the same",
        "supervised/segmentation:Supervised.reads",
        'cls.optional_taps if options["aux_weight"] else ()',
        "cls.optional_taps",
        "tests/losses/plan/test_plan.py::test_needs_and_taps_are_listed_once_and_dropped_terms_need_nothing",
    ),
    (
        "the auxiliary head counts 0.5",
        "supervised/segmentation:Supervised.__init__",
        "= 0.4",
        "= 0.5",
        golden("afdcd_objective"),
    ),
    (
        "both labels of a mixed image count alike",
        "classification_ce",
        "share_B * own_B + (1 - share_B) * other_B",
        "(own_B + other_B) / 2",
        CLASSES + "test_the_labels_of_a_mixed_image_count_by_their_shares",
    ),
    (
        "the labels of a mixed image are exchanged",
        "classification_ce",
        "share_B * own_B + (1 - share_B) * other_B",
        "(1 - share_B) * own_B + share_B * other_B",
        CLASSES + "test_the_labels_of_a_mixed_image_count_by_their_shares",
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
        "return own_B.mean()",
        "return own_B.sum()",
        BY_HAND,
    ),
    (
        "label smoothing is not passed on",
        "supervised/classification:Supervised.forward",
        "inputs.mixed, smoothing=self.smoothing",
        "inputs.mixed",
        BY_HAND,
    ),
    (
        "a mixed image counts by its first label alone",
        "supervised/classification:Supervised.forward",
        "inputs.mixed, smoothing",
        "None, smoothing",
        BY_HAND,
    ),
    (
        "quarter turns are supervised too",
        "supervised/classification:Supervised.forward",
        'plain_rows(inputs, v) for v in (inputs.student["logits"], inputs.truth)',
        'v for v in (inputs.student["logits"], inputs.truth)',
        CLASSES + "test_only_the_plain_rows_of_quarter_turns_are_supervised",
    ),
]
