"""Judging boxes: figures of other boxes, of another truth, or by another rule than COCO's would be reported
as a student's."""

METRICS = "tests/trainer/judge/test_detection_metrics.py"
JUDGE = "tests/trainer/judge/test_detection.py"
TWELVE = f"{METRICS}::test_all_twelve_figures_are_those_of_pycocotools"
BY_HAND = f"{METRICS}::test_the_figures_of_a_case_that_can_be_counted_by_hand"
EXACT = f"{METRICS}::test_a_box_exactly_at_a_threshold_is_a_hit_there"
NOTHING = f"{METRICS}::test_nothing_in_the_truth_is_nan_and_nothing_said_is_zero"
BACK = f"{JUDGE}::test_boxes_come_back_in_pixels_of_the_stored_image_and_are_cut_to_it"
WRITTEN = f"{JUDGE}::test_the_truth_is_what_the_data_set_says_and_not_what_the_view_shows"
BEST = f"{JUDGE}::test_the_best_hundred_boxes_of_an_image_count"
RANKS = f"{JUDGE}::test_two_ranks_answer_the_bits_of_one_and_every_image_counts_once"
RECORDS = f"{JUDGE}::test_records_are_results_that_pycocotools_judges_alike"
THIRD = "tests/test_third_task.py"
REACH = "tests/cli/test_options_reach.py::test_eval_writes_what_is_said_of_each_image_where_it_is_asked_to"
RUNS = f"{JUDGE}::test_a_run_of_a_detector_is_judged_with_the_records_of_its_images"
PICTURE = f"{JUDGE}::test_a_picture_draws_the_sure_boxes_on_the_image"

MUTANTS = [
    # ---- average precision
    ("thresholds of overlap are rounded to float32", "OVERLAPS", "np.linspace(0.5, 0.95, 10)",
     "np.linspace(0.5, 0.95, 10, dtype=np.float32).astype(np.float64)", EXACT),
    ("recalls are looked at in steps of a tenth", "RECALLS", "np.linspace(0, 1, 101)",
     "np.linspace(0, 1, 11)", BY_HAND),
    ("fifty boxes of a class count in an image", "MOST_BOXES", "(1, 10, 100)", "(1, 10, 50)",
     f"{METRICS}::test_the_hundred_and_first_box_of_a_class_counts_nowhere"),
    ("crowds are objects", "_truth_set", '"iscrowd": int(row[_CROWD])', '"iscrowd": 0',
     f"{METRICS}::test_a_box_on_a_crowd_is_neither_right_nor_wrong"),
    ("sizes are those of the boxes", "_truth_set", '"area": row[_AREA]',
     '"area": (row[2] - row[0]) * (row[3] - row[1])',
     f"{METRICS}::test_sizes_are_the_annotations_own_areas"),
    ("the first object is never found", "_truth_set", "in enumerate(objects, 1)", "in enumerate(objects)",
     BY_HAND),
    ("a class that is never there has an average precision of -1", "detection_metrics:_mean",
     "values[values > _ABSENT]", "values[values >= _ABSENT]", BY_HAND),
    ("a split without an object has an average precision of 0", "detection_metrics:_mean", "math.nan", "0.0",
     NOTHING),
    ("ap75 is that of an overlap of 0.7", "_figures", "precision_TRKSD[5,", "precision_TRKSD[4,", TWELVE),
    ("small objects are those of all sizes", "_figures",
     "for size in (1, 2, 3)),\n        *(_mean(recall_TKSD[:, :, 0",
     "for size in (0, 2, 3)),\n        *(_mean(recall_TKSD[:, :, 0", TWELVE),
    ("the figure of a class is that of one box an image", "detection_metrics:metrics_of",
     "precision_TRKSD[:, :, number, 0, -1]", "precision_TRKSD[:, :, number, 0, 0]", METRICS),
    ("the best student is chosen by its recall", "DetectionMetrics.score", "self.figures.ap",
     "self.figures.ar100", METRICS),
    # ---- the view and its boxes
    ("boxes stay in pixels of the canvas", "_on_stored", "boxes_N6[:, :4] * scale", "boxes_N6[:, :4]", BACK),
    ("rows are scaled as columns are", "_on_stored", "height / geometry.resize_h",
     "width / geometry.resize_w", f"{JUDGE}::test_rows_and_columns_have_scales_of_their_own"),
    ("boxes reach over the border of their image", "_on_stored",
     "np.clip(boxes_N6[:, :4] * scale, 0.0, [width, height, width, height])",
     "boxes_N6[:, :4] * scale", BACK),
    ("every box has the class before its own", "_on_stored", ".astype(np.int64) - 1",
     ".astype(np.int64) - 2", BACK),
    ("boxes of the first class are none", "judge/detection:Judge._best", "classes_N[best, None] + 1",
     "classes_N[best, None]", f"{BEST} {WRITTEN}"),
    ("the hundred boxes of lowest score count", "judge/detection:Judge._best", "descending=True",
     "descending=False", BEST),
    ("boxes are kept in half their digits", "judge/detection:Judge.table", "torch.float64",
     "torch.bfloat16", JUDGE),
    ("every image of a batch has the boxes of the first", "judge/detection:Judge.fill",
     "range(places.start, places.stop)", "[places.start] * (places.stop - places.start)",
     f"{JUDGE}::test_batches_of_any_size_answer_the_same"),
    ("the truth is what the view shows", "judge/judge:_judged", "samples.truth(index)",
     "task_of(samples.task).truth.moved(samples.truth(index), counting.geometry(size, input_size), (), size)"
     "[:, [0, 1, 2, 3, 4, 4, 4, 4]] * 1.0", WRITTEN),
    ("a rank reads the truth of its own images alone", "judge/judge:judge",
     "_judged(samples, groups, counting, input_size)", "_judged(samples, own, counting, input_size)", RANKS),
    ("an object of a class that is not there counts as wrong", "judge/detection:Judge.check_truth",
     ">= self.num_classes", "> self.num_classes",
     f"{JUDGE}::test_a_class_that_the_network_does_not_know_is_refused_by_name"),
    ("a wrapped detector cannot be judged", "judge/detection:_grid_in", "network.modules()", "[network]",
     f"{JUDGE}::test_a_wrapped_network_is_read_by_its_own_grid"),
    ("a teacher of boxes is asked and forgotten", "judge/detection:Judge",
     '''    no_teacher = (
        "agreement with a teacher is measured for classification; boxes are compared by their own average "
        "precision"
    )''', '    no_teacher = ""',
     f"{JUDGE}::test_a_teacher_beside_the_network_is_refused_with_the_reason"),
    # ---- what is written and drawn
    ("records give corners where COCO wants sides", "result_records", "[x1, y1, x2 - x1, y2 - y1]",
     "[x1, y1, x2, y2]",
     f"{TWELVE} {JUDGE}::test_records_of_a_source_without_numbers_go_by_its_keys"),
    ("records number images from 0", "result_records", "image_id(image.sample)", "image.sample", RECORDS),
    ("records number classes from 0", "result_records", "category_ids[number]", "number", RECORDS),
    ("--json writes an empty list", "evaluate_run", "recording.records(metrics, source) if recording else ()",
     "()", RUNS),
    ("--json of a task without records ends in a traceback", "_recording_judge", "if counting.no_records:",
     "if False:", f"{THIRD}::test_a_task_without_records_of_its_images_says_so_before_it_judges"),
    ("--json asks for no records", "eval_command", 'given.pop("records_out", None) is not None',
     'given.pop("records_out", None) is None', REACH),
    ("a picture shows every box of a low score", "cache/tasks/detection:DRAWN_SCORE", "0.3", "0.2", PICTURE),
]  # fmt: skip
