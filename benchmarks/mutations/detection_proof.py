"""Detectors beside torchvision's, on two ranks and in bfloat16: a student that learns from other points or by
other divisors, or whose ranks count for themselves, is trained without an error."""

BESIDE = "tests/losses/supervised/test_torchvision_heads.py"
FCOS = f"{BESIDE}::test_fcos_has_torchvisions_losses_and_its_box_term_is_weighed_by_centerness"
RETINA = f"{BESIDE}::test_retinanet_has_torchvisions_losses_of_an_image"
DETECTED = f"{BESIDE}::test_the_same_boxes_are_detected"
EMPTY = f"{BESIDE}::test_an_image_without_objects_costs_what_it_costs_in_torchvision"
RANKS = "tests/trainer/test_detection_ranks.py"
NUMBER = f"{RANKS}::test_two_ranks_divide_by_as_many_positives_as_one"
SAME = f"{RANKS}::test_two_ranks_come_to_the_losses_and_the_student_of_one"
JUDGED = f"{RANKS}::test_what_two_ranks_judge_is_what_one_judges_of_the_same_student"
BF16 = "tests/trainer/steps/test_bf16_detectors.py"

MUTANTS = [
    # ---- beside torchvision
    (
        "boxes of fcos count alike wherever they stand",
        "detection:_centred",
        "one.centerness_N * (1 - paired_giou",
        "(1 - paired_giou",
        FCOS,
    ),
    ("fcos answers two strides around a centre", "RADIUS", "1.5", "2.0", FCOS),
    ("a level of fcos answers for objects of half the size", "REACH", "8.0", "4.0", FCOS),
    ("the target of centerness is its square", "boxes:centerness", ".sqrt()", "", FCOS),
    ("an image without a positive counts as one in fcos", "_number", 'assigner != "fcos"', "assigner", EMPTY),
    ("deltas of retinanet are squared", "_retinanet", ".abs().sum()", ".square().sum()", RETINA),
    ("anchors of an overlap of 0.6 are the first positives", "FOREGROUND_IOU", "0.5", "0.6", RETINA),
    ("the focal loss weighs both sides alike", "FOCAL_ALPHA", "0.25", "0.5", f"{FCOS} {RETINA}"),
    (
        "a score is the product with the centerness",
        "detectors/decode:_scores",
        "(scores_BPK * centre_BP1).sqrt()",
        "scores_BPK * centre_BP1",
        DETECTED,
    ),
    (
        "the network of fcos answers negative sides",
        "FcosHead.level",
        "nn.functional.relu(boxes.bbox_reg(features_BCHW))",
        "boxes.bbox_reg(features_BCHW)",
        f"{FCOS} {DETECTED}",
    ),
    # ---- two ranks
    (
        "each rank counts its own positives",
        "_number",
        "mean_over_ranks(per_image_B.sum().float())",
        "per_image_B.sum().float()",
        NUMBER,
    ),
    (
        "each rank divides boxes by its own weights",
        "detection:_gfl",
        "mean_over_ranks(torch.stack(weights).sum())",
        "torch.stack(weights).sum()",
        SAME,
    ),
    (
        "a rank judges by its own images alone",
        "judge/judge:_over_ranks",
        "(reduce(table), reduce(bad))",
        "(table, reduce(bad))",
        JUDGED,
    ),
    ("every rank judges all images", "judge/judge:judge", "groups[rank::world]", "groups", JUDGED),
    # ---- bfloat16
    (
        "the number of positives is rounded to eight bits",
        "_number",
        "per_image_B.sum().float()",
        "per_image_B.sum().bfloat16()",
        BF16,
    ),
]
