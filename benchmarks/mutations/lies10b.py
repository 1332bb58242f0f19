"""Small pictures, what is left of what failed, labels that are read otherwise, and what is said of losses."""

SMALL, PEEK = "tests/cache/look/test_peek_small.py", "tests/cache/look/test_peek.py"
BACK = "tests/cache/build/test_taken_back.py"
RUN = "tests/trainer/folder/test_run_folder.py"
BEGAN = "tests/trainer/folder/test_environment.py::test_labels_that_are_read_otherwise_are_said_apart"
FIT = "tests/cli/test_loss_fit.py::test_for_says_what_a_student_must_have_as_show_does_afterwards"
FILE = "tests/cli/test_config_file.py::test_what_is_not_taken_over_is_said_in_one_line"
SWEEP = "tests/cli/bench/test_sweep.py::test_a_build_that_fails_ends_the_sweep_before_any_cell"

MUTANTS = [
    ("a map of one cell is black again", "_tap_panels", "value.shape[:2] == (1, 1)", "False",
     f"{SMALL}::test_a_map_of_one_cell_is_drawn_as_the_vector_that_it_is"),
    ("a small image fills its panel whatever its pixels", "peek.py:_cell", "if width <= PANEL_PX", "if False",
     f"{PEEK}::test_one_picture_shows_image_truth_prediction_and_taps"),
    ("cells without a value are the lowest one", "peek.py:NO_VALUE", "(190, 210, 255)", "(0, 0, 0)",
     f"{PEEK}::test_a_vector_is_grey_from_its_lowest_to_its_highest_value"),
    ("letters hide a small image", "panels.py:enlargement", "PANEL_PX // width", "1",
     "tests/cache/tasks/test_detection.py"
     "::test_a_small_image_is_enlarged_before_frames_and_letters_lie_on_it"),
    ("a class has another colour than its data give it", "class_colour", "own is not None", "False",
     f"{SMALL}::test_classes_have_the_colours_that_the_data_give_them"),
    ("of several colours of a class the last is shown", "shown_colours",
     "first.setdefault(int(train_id), (red, green, blue))", "first[int(train_id)] = (red, green, blue)",
     "tests/cache/sources/own/test_classes_toml.py"),
    ("a refused build leaves its folder", "build_lock", "_take_back(root)", "pass",
     f"{BACK}::test_a_build_that_is_refused_leaves_no_folder"),
    ("samples that were packed are thrown away", "_take_back",
     "if not (list_records(root) or list_generations(root)):", "if not list_generations(root):",
     f"{BACK}::test_a_teacher_that_fails_at_its_first_batch_leaves_no_cache_but_its_packed_samples"),
    ("a folder with something of somebody's is removed", "build_lock", "set(before) <= _BEGINNING", "True",
     f"{BACK}::test_a_folder_with_something_else_in_it_stays"),
    ("packed samples alone are a cache", "record/records.py:holds_targets", "not shard.of_samples", "True",
     f"{BACK}::test_a_teacher_that_fails_at_its_first_batch_leaves_no_cache_but_its_packed_samples"),
    ("a run that never began is listed", "run_folder.py:held", "not keep and began_only(run_dir)", "False",
     f"{RUN}::test_a_run_that_ends_before_its_first_step_leaves_no_folder"),
    ("a run that got somewhere is removed", "run_folder.py:held", "not keep and began_only(run_dir)", "True",
     f"{RUN}::test_what_got_anywhere_stays_when_it_ends_in_an_error"),
    ("a sweep whose first build failed is listed", "taken_back", "if not begun and", "if False and", SWEEP),
    ("a sweep that began goes with a build that fails", "taken_back", "if not begun and", "if",
     "tests/trainer/bench/test_sweep_folder.py::test_only_a_sweep_that_this_command_began_is_taken_back"),
    ("labels that are read otherwise go on", "FreshStream._classes",
     "{CLASSES: digest_of(self._samples.source.describe(), 16)}", "{}",
     "tests/cli/test_own_data.py::test_a_run_never_goes_on_with_labels_that_are_read_otherwise"),
    ("a run of before the classes were kept cannot go on", "refuse_other_stream", "if CLASSES not in then:",
     "if False:", BEGAN),
    ("code without a folder is an unknown dataset", "_names_class", "code and likely", "False and likely",
     "tests/cache/sources/test_table.py::test_code_without_a_folder_says_to_write_one"),
    ("a misspelt dataset is somebody's code", "_names_class",
     "(rest[:1].isupper() and nearest(name, SOURCES) is None)", "True",
     "tests/cache/sources/test_table.py::test_a_misspelt_dataset_with_a_folder_is_no_code"),
    ("--for says nothing of the student", "BuildDisplay.planned", "self._fits.notes", "()", FIT),
    ("what a file chose in vain is kept quiet", "start.py:with_file", "left_out(vain)", "pass", FILE),
    ("what was typed is said to be left out", "start.py:with_file", "if name in out and name not in given",
     "if name in out", FILE),
]  # fmt: skip
