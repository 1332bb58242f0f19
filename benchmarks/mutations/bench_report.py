"""Several runs beside each other: what a table, an interval or a page would say wrongly. Each change would
let an author claim what was not measured, or a name from data break the page."""

STATISTICS = "tests/trainer/bench/test_statistics.py"
TABLE = "tests/trainer/bench/test_score_table.py"
PAGE = "tests/trainer/bench/test_report.py"
LEDGER = "tests/trainer/bench/test_curves_and_ledger.py"
ANALYSIS = "tests/trainer/bench/test_analysis.py"
SCORES = "tests/trainer/folder/test_scores.py"
HAND = f"{STATISTICS}::test_mean_deviation_and_interval_of_three_seeds_by_hand"
WORDS = f"{STATISTICS}::test_words_say_no_more_than_the_interval"

MUTANTS = [
    (
        "intervals are of the normal distribution",
        "bench/statistics:spread",
        "t_quantile(count - 1)",
        "1.96",
        HAND,
    ),
    ("the deviation is that of all there is", "bench/statistics:spread", "/ (count - 1))", "/ count)", HAND),
    (
        "an interval that ends at 0 leaves it out",
        "bench/statistics:verdict",
        "differences.low <= 0 <= differences.high",
        "differences.low < 0 < differences.high",
        WORDS,
    ),
    (
        "odd degrees of freedom are counted as even ones",
        "t_inside",
        "(2 * number + 1 + odd)",
        "(2 * number + 1)",
        f"{STATISTICS}::test_the_quantile_is_that_of_the_printed_table",
    ),
    (
        "seeds are paired with whoever comes next",
        "bench/statistics:paired",
        "theirs[seed] for",
        "min(theirs.values()) for",
        f"{STATISTICS}::test_pairs_are_of_equal_seeds_and_lonely_seeds_are_left_out",
    ),
    (
        "the best of a stopped run counts",
        "bench/entries:_entry",
        "if state.word != FINISHED:",
        "if state.word == NOT_BEGUN:",
        f"{TABLE}::test_a_run_that_did_not_come_to_its_end_keeps_its_place_and_has_no_score",
    ),
    (
        "a run is compared with another student's none",
        "_base_of",
        " and one.key.student == row.key.student",
        "",
        f"{TABLE}::test_another_students_none_is_no_comparison",
    ),
    (
        "a repeated seed counts twice",
        "make_table",
        "one.seed == entry.seed",
        "one.run == entry.run",
        f"{TABLE}::test_the_same_cell_twice_counts_once",
    ),
    (
        "differences are on test where some runs have no score there",
        "make_table",
        "all(entry.test",
        "any(entry.test",
        f"{TABLE}::test_differences_are_of_test_where_every_run_has_a_score_there_and_else_of_val",
    ),
    (
        "runs of other data stand in one table",
        "require_one_data",
        "!= theirs",
        "is None",
        f"{TABLE}::test_runs_that_no_table_holds_are_named",
    ),
    (
        "scores of an earlier student are shown",
        "read_scores",
        'judged if table.get("student") == read_run_card(run_dir).weights_digest else None',
        "judged",
        f"{SCORES}::test_scores_of_a_student_that_is_no_longer_the_exported_one_are_none",
    ),
    (
        "names in the page are markup",
        "page/parts:text",
        "html.escape(visible(value))",
        "visible(value)",
        f"{PAGE}::test_names_from_data_and_options_are_text_and_no_markup",
    ),
    (
        "classes are those of the last validation",
        "read_curves",
        "max(judged",
        "(lambda lines, **_: judged[-1])(judged",
        f"{LEDGER}::test_curves_are_the_lines_of_the_log_and_the_classes_those_of_the_best",
    ),
    (
        "the undistilled student saves forwards too",
        "reads_teacher",
        'name.startswith("tap/")',
        "True",
        f"{LEDGER}::test_rows_are_paid_once_per_pass_and_only_runs_that_read_the_teacher_save",
    ),
    (
        "the cache has paid for itself a run late",
        "CacheAccount",
        "total >= self.paid",
        "total > self.paid",
        f"{LEDGER}::test_the_run_at_which_a_cache_has_paid_for_itself",
    ),
    (
        "features are compared without centring",
        "linear_cka",
        "ours_VC - ours_VC.mean(0)",
        "ours_VC",
        f"{ANALYSIS}::test_cka_is_that_of_the_kernels_and_knows_no_rotation_and_no_scale",
    ),
    (
        "a cell is compared with itself too",
        "patch_cosines",
        "side_h * side_w, 1)",
        "side_h * side_w, 0)",
        ANALYSIS,
    ),
    (
        "a tracker that is not installed is passed over",
        "trainer/ranks:_trackers",
        "if name not in available:",
        "if False:",
        "tests/test_seldom_errors.py::test_a_tracker_that_is_not_installed_is_named",
    ),
    (
        "scores on other data are kept with the run",
        "kdtrain:_judge_and_write",
        'given["data"] is None and number',
        "number",
        "tests/cli/test_bench.py::test_eval_keeps_what_it_says_of_the_runs_own_data_and_nothing_else",
    ),
]
