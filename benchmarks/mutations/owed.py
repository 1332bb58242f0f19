"""Changes of what TAB offers, of files that are asked for, of cards, overlays and lists."""

TAB = "tests/cli/test_completing.py"
OFFERED = f"{TAB}::test_names_are_offered_where_one_is_asked_for"
OUT = "tests/cli/test_out_files.py"
DRAWN = "tests/cache/tasks/test_drawn_boxes.py"
LISTS = (
    "tests/cli/test_fixes_that_work.py::test_a_list_has_no_spaces_behind_its_lines_and_its_titles_are_aligned"
)
CARD = "tests/trainer/export/test_export.py::test_the_card_reads_as_it_was_meant"

MUTANTS = [
    ("any folder is a run on TAB", "completing:_runs", 'f"*/{CONFIG_NAME}"', '"*"', OFFERED),
    ("a run without a student is offered to eval", "completing:_students", 'f"*/{CARD}"', '"*/config.toml"',
     OFFERED),
    ("a run is offered twice to rm", "Named.shell_complete", " and name not in (taken or ())", "", OFFERED),
    ("names are offered inside the options of a loss", "Named.shell_complete",
     'before.count("(") > before.count(")")', "False", OFFERED),
    ("TAB forgets what stands before the comma", "Named.shell_complete", 'f"{before}{name}"', "name",
     OFFERED),
    ("no path is offered where no name fits", "Named.shell_complete", "if offered or not self._path",
     "if True", OFFERED),
    ("names that a shell would break are offered", "Named._listed", "if shell_word(name) == name", "",
     OFFERED),
    ("a home that is a file is an error in the line", "Named._listed", "except (KdError, OSError)",
     "except OSError", f"{TAB}::test_a_home_that_cannot_be_listed_offers_nothing"),
    ("a chain is offered the names of runs", "completing:_OFFERED_BY", '("chain", "run"): None',
     '("chain", "run"): _RUN', OFFERED),
    ("folders of a failed report stay", "folder_of", "folder.rmdir()", "pass",
     f"{OUT}::test_a_report_of_nothing_leaves_no_folder"),
    ("folders are made when the work is done", "folder_of", "path.parent.mkdir(parents=True, exist_ok=True)",
     "pass", f"{OUT}::test_figures_of_a_run_that_cannot_be_judged_leave_no_folder"),
    ("a place that takes no files is found out in the end", "folder_of",
     "TemporaryFile(dir=path.parent).close()", "pass",
     f"{OUT}::test_a_place_that_takes_no_files_is_said_before_the_work"),
    ("code of the card has backslashes", "model_card:model_card", 'f"| {name} | {text} |"',
     'f"| {name} | {_cell(text)} |"', CARD),
    ("a class name is Markdown", "model_card:_cell", '"|`*<>[]"', '"|"', CARD),
    ("the weakest box lies on top", "panels:draw_boxes", "in reversed(rows)", "in rows",
     f"{DRAWN}::test_the_surest_of_two_boxes_lies_on_top"),
    ("text is black on every class", "panels:_tag", '"black" if bright else "white"', '"black"',
     f"{DRAWN}::test_a_text_is_dark_on_a_light_class_and_light_on_a_dark_one"),
    ("text is cut off at the edge", "panels:_tag", "left = max(0, min(round(left), draw.im.size[0] - wide))",
     "left = round(left)", f"{DRAWN}::test_a_text_at_the_edge_is_moved_into_the_picture"),
    ("letters are lost on a large picture", "panels:_text_scale", "max(1, width // LARGE_PX)", "1",
     f"{DRAWN}::test_letters_grow_with_a_picture_that_is_shown_smaller"),
    ("lists end in spaces", "Terminal.list_rows", "line.rstrip()", "line", LISTS),
    ("an export without figures has a score of none", "evaluate_exported",
     'if said := no_figures_said(metrics, "the export")', 'if said := ""',
     "tests/trainer/export/test_export.py::test_an_export_that_answers_no_numbers_is_given_no_score"),
    ("a task that predicts nothing writes an empty folder", "predict_images", "if counting.no_predictions",
     "if False",
     "tests/test_third_task.py::test_a_task_without_predictions_says_so_before_any_folder_is_made"),
    ("nobody says that a sweep can do without fresh views", "plan:_config", "cell.role != FRESH_NONE",
     "True",
     "tests/cli/bench/test_sweep.py::"
     "test_data_that_are_gone_stop_no_sweep_that_needs_the_cache_alone"),
    ("a description whose figures are no table is read", "card_of",
     'not isinstance(card.get("metrics"), dict)', "False",
     "tests/trainer/bench/test_run_state.py::"
     "test_a_description_that_cannot_be_read_is_an_error_and_no_run_that_is_unfinished"),
]  # fmt: skip
