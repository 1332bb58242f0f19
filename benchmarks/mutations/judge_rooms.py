"""The judges of both tasks, what they share, and pictures of what networks say. Each change would report
other figures than the network deserves. Precision, ranks and the choice of the best student: `judge`."""

SEGMENTATION = "tests/trainer/judge/test_segmentation.py"
CLASSIFICATION = "tests/trainer/judge/test_classification.py"
JUDGE = "tests/trainer/judge/test_judge.py"
PICTURES = "tests/trainer/judge/test_pictures.py"
PIXELS = f"{SEGMENTATION}::test_metrics_equal_those_counted_pixel_by_pixel_at_native_size"
BATCHES = f"{SEGMENTATION}::test_batches_of_equal_sizes_count_the_same_as_single_images"
OUTSIDE = f"{SEGMENTATION}::test_a_label_outside_the_classes_is_refused_by_name"
BY_HAND = f"{CLASSIFICATION}::test_metrics_equal_those_counted_by_hand"
BESIDE = f"{CLASSIFICATION}::test_agreement_and_divergence_are_measured_on_the_same_pixels"
TOP5 = f"{CLASSIFICATION}::test_top5_of_three_classes_looks_at_three_and_of_many_at_five"
OTHER_SIZES = f"{CLASSIFICATION}::test_images_of_other_sizes_show_the_centre_and_no_border"
MODES = f"{JUDGE}::test_a_network_is_evaluated_in_evaluation_mode_and_gets_its_modes_back"

MUTANTS = [
    # ---- segmentation
    ("images that are judged alone are put in another order", "segmentation.py:Judge.groups",
     "if batch_size == 1:", "if batch_size == 0:",
     f"{SEGMENTATION}::test_alone_images_are_judged_in_their_order"),
    ("the first label outside the classes counts as a class", "segmentation.py:Judge.check_truth",
     "truth >= self.num_classes", "truth > self.num_classes", OUTSIDE),
    ("ignored pixels are refused as a class", "segmentation.py:Judge.check_truth",
     " & (truth != IGNORE)", "", PIXELS),
    ("a batch counts as one image", "segmentation.py:Judge.fill", "+= len(truth)", "+= 1", BATCHES),
    ("only the last batch of a split is counted", "segmentation.py:Judge.fill",
     "table[:-1] += confusion", "table[:-1] = confusion", PIXELS),
    ("hits are counted twice in the union", "segmentation.py:metrics_of", " - hits\n", "\n", PIXELS),
    ("labels and predictions change places in the confusion matrix", "confusion",
     "        predicted_BHW, labels_BHW.long(), num_classes",
     "        labels_BHW.long(), predicted_BHW, num_classes", f"{PIXELS} {SEGMENTATION}"),
    ("absent classes are left out of the published mean", "segmentation.py:metrics_of",
     "iou.nan_to_num(0.0).mean()", "iou.nanmean()",
     f"{SEGMENTATION}::test_a_class_that_never_occurs_counts_for_nothing_or_for_zero_as_published"),
    ("pixel accuracy is that of the classes' mean", "segmentation.py:metrics_of",
     "hits.sum() / counts.sum()", "(hits / counts.sum(1)).nanmean()", PIXELS),
    # ---- classification
    ("top5 looks at three answers", "figures_of", "topk(min(5,", "topk(min(3,", TOP5),
    ("the first class outside the network counts as one", "classification.py:Judge.check_truth",
     "truth >= self.num_classes", "truth > self.num_classes",
     f"{CLASSIFICATION}::test_a_class_outside_the_network_is_refused_by_name"),
    ("teacher and student change places in the divergence", "figures_of",
     "kl_div(log_p_BK, log_t_BK", "kl_div(log_t_BK, log_p_BK", BESIDE),
    ("agreement is with the label", "figures_of", "== best_B5[:, 0]", "== labels_B", BESIDE),
    ("a class without images has accuracy 0", "classification.py:metrics_of",
     "hits_K / counts_K ", "hits_K / counts_K.clamp(min=1) ", BY_HAND),
    ("the mean loss is of the probability, not of its logarithm", "figures_of",
     'cross_entropy(logits_BK, labels_B, reduction="none")',
     '1 - (-cross_entropy(logits_BK, labels_B, reduction="none")).exp()', BY_HAND),
    ("agreement is told without a teacher", "classification.py:metrics_of",
     "float(figures.agrees.mean()) if with_teacher else None", "float(figures.agrees.mean())", BESIDE),
    ("a teacher of other classes is compared", "figures_of",
     "teacher_BK.shape != logits_BK.shape", "len(teacher_BK) != len(logits_BK)",
     f"{CLASSIFICATION}::test_a_teacher_of_other_classes_is_refused"),
    ("the crop to judge is not of the resized image", "classification.py:Judge.geometry",
     "Geometry(resized_h, resized_w,", "Geometry(*size,", CLASSIFICATION),
    # ---- the loop
    ("invalid samples are judged", "judge.py:_valid_samples", "if i not in invalid", "",
     f"{JUDGE}::test_invalid_samples_are_left_out"),
    ("a judged network keeps evaluation mode in its parts", "evaluating", "module.training = mode", "pass",
     MODES),
    ("a network is judged in the mode that it is in", "evaluating", "network.eval()", "pass", MODES),
    ("the teacher beside a network is the network", "_asking", "evaluating(teacher, taps)",
     "evaluating(network, taps)", BESIDE),
    ("several ranks may leave their tables unsummed", "_check_ranks", "world > 1 and reduce is None",
     "False", f"{JUDGE}::test_several_ranks_without_a_reduction_are_refused"),
    ("an image that cannot be decoded is named by its place in the batch", "judged_images",
     "samples.key(groups[number][row])", "str(row)",
     f"{JUDGE}::test_an_image_that_cannot_be_decoded_is_named"),
    ("ratios are shown as they are", "shown", "100 * value", "value",
     f"{JUDGE}::test_figures_are_shown_in_their_unit"),
    # ---- pictures
    ("the truth of a picture is that of its first image", "pictures.py:_sheet", "        top += height\n",
     "", PICTURES),
    ("every column shows what the first run says", "pictures.py:_columns",
     "evaluating(network, counting.taps)",
     "evaluating(next(iter(networks.values())), counting.taps)", PICTURES),
    ("a picture's images are those at the front of the split", "draw_predictions",
     "[[index] for index in indices]", "[[place] for place, _ in enumerate(indices)]", PICTURES),
]  # fmt: skip
