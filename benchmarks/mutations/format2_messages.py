"""Format 2: what a build announces, and what the messages about a cache say to do."""

RESUMED, RESOLVE = "tests/trainer/test_resume_on_cache.py", "tests/cache/networks/test_resolve.py"
CHANGES, COPIES = "tests/cli/test_look_at_changes.py", "tests/cache/build/test_copies.py"
COPIED = f"{COPIES}::test_rows_that_need_no_forward_are_not_announced_as_the_teachers"
LOCAL, LISTING = "tests/cache/stores/test_local.py", "tests/cache/sources/test_listing.py"

MUTANTS = [
    (
        "a lost generation is to be repaired",
        "read_generation",
        "if last > number:",
        "if False:",
        f"{RESUMED}::test_a_run_whose_generation_is_lost_is_started_anew_by_the_line_that_is_printed",
    ),
    (
        "a run is started anew with its options left out",
        "start_words",
        "value is None or value == one.default",
        "value is None or isinstance(value, tuple) or value == one.default",
        f"{RESUMED}::test_a_run_whose_generation_is_lost_is_started_anew_by_the_line_that_is_printed",
    ),
    (
        "classes in another order are those of the run",
        "resolve.py:_check_classes",
        'if classes else ""\n    if',
        'if False else ""\n    if',
        f"{RESOLVE}::test_a_run_that_answers_for_other_classes_is_refused_and_they_are_named",
    ),
    (
        "the data in use are advised",
        "classes_fix",
        "if not same_data(spec, card.data):",
        "if True:",
        f"{RESOLVE}::test_a_run_that_answers_for_other_classes_is_refused_and_they_are_named",
    ),
    (
        "a tar is nobody's",
        "taken_by",
        "for tap in record.targets if [tap] == folder] or record.targets",
        "for tap in record.targets if [tap] == folder]",
        f"{CHANGES}::test_show_divides_what_is_on_disk_among_the_taps",
    ),
    (
        "a folder in the way ends in a traceback",
        "LocalStore._write",
        "                _clear_folder(path)\n",
        "",
        LOCAL,
    ),
    (
        "a folder in the way cannot be removed",
        "LocalStore.remove",
        "            _clear_folder(path)\n",
        "",
        LOCAL,
    ),
    (
        "a file in the way ends in a traceback",
        "stores/local.py:_make_folder",
        "if folder.exists():",
        "if False:",
        LOCAL,
    ),
    (
        "a link is to be repaired",
        "look/verify.py:_problem",
        "isinstance(error, OutsideCache)",
        "False",
        f"{CHANGES}::test_a_linked_part_of_a_cache_is_answered_with_what_helps_and_not_with_a_repair",
    ),
    (
        "linked generations are none",
        "look/verify.py:problems",
        "        yield _problem(None, GENERATIONS, error)\n",
        "        pass\n",
        f"{CHANGES}::test_linked_generations_are_no_cache_that_was_never_finished",
    ),
    (
        "rows that are copied are the teacher's",
        "predict.py:predict",
        "if copies else 0",
        "* 0 if copies else 0",
        COPIED,
    ),
    ("retired rows are the teacher's", "_BlockInputs._read", "if e.row not in self._dead", "if True", COPIED),
    ("another image is expected to be copied", "Copies.count", "digest_of(sample) == ", "True or ", COPIED),
    (
        "a repair is not announced",
        "build/repair.py:repair",
        "        planned(cost)\n",
        "",
        f"{COPIES}::test_a_repair_writes_the_bytes_that_it_announced_before_writing_any",
    ),
    (
        "rows of a repair are no part of the whole",
        "BuildDisplay.repairing",
        "self._total += repairing.rows",
        "pass",
        f"{CHANGES}::test_a_bar_never_shows_more_rows_than_there_are_or_less_time_than_none",
    ),
    (
        "names that differ are not said",
        "command.py:_parts",
        "elif _are_names(then)",
        "elif False and _are_names(then)",
        "tests/cache/record/test_command.py",
    ),
    (
        "an image's error shows an address of memory",
        "unreadable",
        "if isinstance(error, UnidentifiedImageError):",
        "if False:",
        f"{LISTING}::test_what_is_no_image_is_told_without_addresses_of_memory",
    ),
    (
        "an empty image is of an unknown format",
        "open_intact",
        "if not encoded:",
        "if False:",
        f"{LISTING}::test_what_is_no_image_is_told_without_addresses_of_memory",
    ),
    (
        "damage lies somewhere",
        "LocalStore.where",
        "str(self.root / name)",
        "name",
        "tests/cache/stores/test_sample_tars.py::test_a_truncated_tar_is_an_error_that_names_it",
    ),
    (
        "retired rows are told as lost samples",
        "build/repair.py:_living_in",
        " - dead",
        "",
        "tests/cli/test_advice.py::test_a_row_that_had_retired_before_is_not_told_as_lost",
    ),
]
