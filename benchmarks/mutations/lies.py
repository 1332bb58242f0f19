"""Small lies: what was said too late, wrongly, or of something else. Each change brings one of them back."""

BOXES = "tests/cache/sources/test_box_contract.py::test_"
STORY = "tests/test_detection_story.py::test_"
COPIES = "tests/cache/build/test_copies.py::test_"
HUB = "tests/cache/networks/detectors/test_torchvision_detectors.py::test_"
TAPS = "tests/cli/test_taps_table.py::test_weights_say_themselves_how_many_classes_they_tell_apart"
FIT = "tests/losses/plan/test_fit.py"
ANSWERS = "tests/trainer/judge/test_not_finite_answers.py"
SHORT = "tests/trainer/test_config.py::test_shares_are_written_short_and_mean_the_same_when_they_are_read"
LOST = "tests/trainer/test_lost_ranks.py::test_a_rank_that_lives_and_stands_still_is_named_and_all_end"
SAID = f"{STORY}a_bad_box_or_a_missing_image_is_said_before_the_first_step"

MUTANTS = [
    (
        "a run looks at no sample before it begins",
        "_open_data",
        "    source.refuse_unusable()",
        "    pass",
        SAID,
    ),
    (
        "validation looks at no sample before the run begins",
        "_validation",
        "    source.refuse_unusable()",
        "    pass",
        SAID,
    ),
    (
        "bad boxes of a json are none",
        "Coco.usable_boxes",
        "image_A[self._bad_places]).nonzero()",
        "image_A[:0]).nonzero()",
        f"{BOXES}what_no_run_could_read_is_counted_before_it_begins",
    ),
    (
        "images that are gone are not counted",
        "BoxSource.unusable",
        "{*missing, *bad}",
        "{*bad}",
        f"{BOXES}images_that_are_gone_are_counted_without_opening_any",
    ),
    (
        "samples that a repair packs are not announced",
        "_plan_samples",
        "    if samples:",
        "    if False:",
        f"{COPIES}a_repair_writes_the_bytes_that_it_announced_before_writing_any",
    ),
    (
        "a repair does not look at the disk",
        "build/repair.py:_plan_samples",
        "    refuse_full_disk(plan.root, num_bytes + targets)\n",
        "",
        f"{COPIES}a_repair_that_the_disk_has_no_room_for_is_refused_before_it_writes",
    ),
    (
        "the background is a class",
        "torchvision_detectors.py:_behind",
        "range(1, num_classes + 1)",
        "range(num_classes)",
        f"{HUB}a_file_of_your_classes_behind_a_background_teaches_them_and_says_so",
    ),
    (
        "a listing knows better than the weights",
        "_of_as_many_classes",
        "        if num_classes is not None:",
        "        if num_classes is None:",
        TAPS,
    ),
    (
        "answers of a detector are features",
        "fit.py:_changed",
        'if change is _fewer_channels else ("",)',
        'if change is _fewer_channels else ("", CLS)',
        FIT,
    ),
    ("nothing is said of anchors", "fit_of", "    if grid is not None:", "    if False:", FIT),
    (
        "a student without figures is exported",
        "Run._finish",
        "        self._refuse_no_figures()\n",
        "",
        ANSWERS,
    ),
    (
        "a line of figures holds what JSON has not",
        "checked_line",
        "not math.isfinite(value)",
        "False",
        ANSWERS,
    ),
    ("a share is a long decimal", "share_text", "if exact and", "if False and", SHORT),
    ("a rank that lives is never waited for", "Watch._standing", "now.arrivals < first", "False", LOST),
]
