"""What a reader of a comparison found: rows named by what all share, pictures out of sight, a build command
that makes another cache. Each change would bring one of these back."""

TABLE = "tests/trainer/bench/test_score_table.py"
FIGURES = "tests/trainer/bench/test_figures.py"
REPEAT = (
    "tests/trainer/bench/test_report.py::"
    "test_the_commands_of_a_cache_make_one_of_equal_identity_views_and_targets"
)
SWEEP = f"{TABLE}::test_a_sweep_has_the_rows_of_its_runs_and_names_only_options_that_tell_them_apart"
WIDTH = f"{TABLE}::test_no_name_is_broken_at_any_width"

MUTANTS = [
    ("a cache is built again without its recipe", "repeat_words", '["--augment", ', '["--weights", ', REPEAT),
    (
        "a cache is built again without its seed",
        "record/command:_views_words",
        "if seed else []",
        "if not seed else []",
        REPEAT,
    ),
    (
        "crops that were added are asked for alone",
        "record/command:view_word",
        "views.draw_first + views.count",
        "views.count",
        REPEAT,
    ),
    (
        "a mirror is left out",
        "record/command:_views_words",
        "if mirrors else []",
        "if not mirrors else []",
        REPEAT,
    ),
    (
        "views that were added later are numbered first",
        "record/command:_steps",
        "alone or again or reseeded",
        "alone",
        REPEAT,
    ),
    (
        "a target that was named by hand is read elsewhere",
        "record/command:_tap_word",
        "if tap.tap in named else",
        "if False else",
        REPEAT,
    ),
    (
        "what all cells of a role share names them",
        "bench/entries:_differing",
        "< num_cells[role]",
        "<= num_cells[role]",
        SWEEP,
    ),
    ("what changes no figure makes rows", "bench/entries:_differing", "name not in _APART and", "", SWEEP),
    (
        "a table is shown where it has no room",
        "cli/bench/compare:show_table",
        "    if shown.width > terminal.width:\n        _show",
        "    if False:\n        _show",
        WIDTH,
    ),
    (
        "scores are drawn of val beside a table of test",
        "page/figures:scores",
        "row.scores(split).items()",
        'row.scores("val").items()',
        FIGURES,
    ),
    (
        "classes stand in the order of a log",
        "page/figures:classes",
        "(name for name in order if name in there)",
        "()",
        FIGURES,
    ),
    (
        "a lone validation is a line of one point",
        "page/figures:curves",
        "if len(points) > 1 else",
        "if points else",
        FIGURES,
    ),
    (
        "a teacher without a score on test is not said",
        "score_table:_notes",
        "row.role and row.test is None and",
        "row.role and row.val is None and",
        f"{TABLE}::test_a_teacher_without_a_score_on_test_says_how_it_gets_one",
    ),
]
