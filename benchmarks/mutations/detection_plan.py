"""Detection end to end: groups of levels, what a cache can serve, grids that reach losses, what is shown."""

STORY = "tests/test_detection_story.py::test_"
ADDED = f"{STORY}what_is_missing_is_added_by_the_command_that_the_error_prints"
HOLDS = f"{STORY}a_cache_holds_what_bckd_reads_under_both_views_that_published_training_draws"
OTHER = f"{STORY}a_detector_of_another_head_learns_the_features"
DRAWN = f"{STORY}a_sample_is_drawn_with_its_boxes_and_the_teachers"
DECODED = "tests/cache/tasks/test_detection.py::test_a_teachers_boxes_are_decoded_from_its_stored_maps"

MUTANTS = [
    (
        "a loss reads the group's name as a tap",
        "LossPlan.with_levels",
        "_levels_of(reads.student_taps, student)",
        "reads.student_taps",
        ADDED,
    ),
    (
        "the teacher's groups are not levels",
        "LossPlan.with_levels",
        "_needs_of_levels(reads.needs, teacher)",
        "reads.needs",
        ADDED,
    ),
    (
        "the grid of the student stands for the teacher's",
        "trainer/assemble.py:_losses",
        "teacher_grid=_teacher_grid(run_source, teacher)",
        "teacher_grid=network_of(student).grid",
        OTHER,
    ),
    (
        "show promises losses by a group's name alone",
        "loss_fit.py:_plan",
        "return plan.with_levels({}, {} if grid is None else grid.groups)",
        "return plan.with_levels({}, {})",
        HOLDS,
    ),
    ("one level of a kind is asked for", "Cache.require", "kind_of(name) or name", "name", ADDED),
    (
        "what is missing of several is told one by one",
        "Cache.require",
        "' and '.join(map(repr, missing))",
        "repr(missing[-1])",
        f"{STORY}every_target_that_is_missing_is_named_at_once",
    ),
    (
        "a teacher's boxes are not drawn",
        "cache/tasks/detection.py:Objects.answers",
        'decoded[f"{prefix}boxes"] =',
        "_ =",
        DRAWN,
    ),
    (
        "boxes of maps that are not all there are drawn",
        "cache/tasks/detection.py:Objects.answers",
        "if all(prefix + tap in row.values for tap in taps):",
        "if taps:",
        DECODED,
    ),
    ("panels stand in one line", "PANELS_ACROSS", "6", "60", DRAWN),
    (
        "bckd leaves gfl's own weights of boxes",
        "BinaryClassification.task_options",
        '{"score": "auto"}',
        "{}",
        f"{STORY}bckd_changes_the_task_loss_of_gfl_and_says_so",
    ),
    (
        "a figure that cannot be said is no JSON",
        "judged_record",
        "plain(metrics.named())",
        "metrics.named()",
        f"{STORY}boxes_of_a_run_are_written_in_cocos_form_and_figures_as_plain_json",
    ),
    (
        "padding of the canvas is not told",
        "padded_share",
        "1 - sum(filled) / len(filled)",
        "0.0 * len(filled)",
        f"{STORY}a_canvas_that_is_mostly_padding_is_said_before_the_teacher_runs",
    ),
    (
        "what is filled is taken for padding",
        "padded_share",
        "1 - sum(filled)",
        "0 + sum(filled)",
        f"{STORY}a_canvas_that_is_mostly_padding_is_said_before_the_teacher_runs",
    ),
    (
        "what is worked out once has a gradient",
        "LossSet.forward",
        "with torch.no_grad():",
        "if True:",
        "tests/losses/test_loss_set.py"
        "::test_what_the_supervised_term_works_out_reaches_every_term_and_has_no_gradient",
    ),
]
