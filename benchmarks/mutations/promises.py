"""What the README and its pages say: each change makes one of their sentences false."""

README = "tests/test_readme.py::test_"
DEMO = "tests/cli/test_demo.py::test_"
FORMAT = "tests/test_format_page.py::test_"
NUMBERS = "tests/test_documented_defaults.py::test_a_number_that_a_document_gives_is_the_one_in_the_code"

MUTANTS = [
    (
        "the demo trains four students",
        "cli/demo:commands",
        '"--seeds", SEEDS',
        '"--seeds", "3,4"',
        f"{DEMO}a_teacher_is_trained_and_cached_and_six_students_learn_from_that_cache",
    ),
    (
        "a command takes no consent",
        "KdGroup.add_command",
        "cmd.params.append(trust_option())",
        "pass",
        f"{README}consent_can_be_given_with_any_command",
    ),
    (
        "members of a tar are named by another width",
        "webdataset_format:_members",
        ".v{shard.view:03d}",
        ".v{shard.view:02d}",
        f"{FORMAT}plain_webdataset_gives_images_and_the_teachers_numbers",
    ),
    (
        "the demo's cache lacks what its loss reads",
        "cli/demo:commands",
        '"--for", LOSS',
        '"--for", "kd"',
        f"{DEMO}a_teacher_is_trained_and_cached_and_six_students_learn_from_that_cache",
    ),
    (
        "the demo goes on after a failure",
        "cli/demo:_run",
        '        say_error(log.read_text(encoding="utf-8", errors="surrogateescape")[-2000:].rstrip())\n'
        "        raise SystemExit(status)",
        "        return",
        f"{DEMO}a_command_that_fails_ends_it_with_what_that_said",
    ),
    (
        "the demo works in the user's home",
        "cli/demo:_run",
        '{"KDCACHE_HOME": str(home)}',
        "{}",
        f"{DEMO}everything_lies_in_the_folder_and_the_report_is_named",
    ),
    (
        "the demo's teacher is trained anew",
        "cli/demo:_run",
        '[*command, "--resume"]',
        "command",
        f"{DEMO}the_same_command_goes_on_with_the_teacher_that_is_there",
    ),
    (
        "without plotly the demo ends with an error",
        "cli/demo:demo",
        "report if drawn else None",
        "report",
        f"{DEMO}without_plotly_the_table_is_printed_all_the_same",
    ),
    (
        "a dataset of the README is gone",
        "sources/table:_SEGMENTATION",
        "CocoStuff, ",
        "",
        f"{README}the_list_of_data_is_that_of_the_sources",
    ),
    (
        "the keys of a cache cannot be listed",
        "cli/caches/look:show",
        '"--keys"',
        '"--samples"',
        f"{README}a_row_of_the_table_names_options_of_its_command",
    ),
    (
        "a file of a sweep is called by its suffix too",
        "bench/definition:read_definition",
        "path.stem",
        "path.name",
        "tests/cli/bench/test_sweeps_page.py::"
        "test_a_file_without_a_name_names_its_runs_and_looking_commands_speak_json",
    ),
    ("two runs fewer fit one process", "cli/bench/sweep:MOST_TOGETHER", "64", "62", NUMBERS),
    ("an export may differ by a hundredth", "trainer/export/compare:BOUND", "1e-3", "1e-2", NUMBERS),
    ("an export is compared on two images", "trainer/export/compare:NUM_IMAGES", "8", "2", NUMBERS),
    ("a picture shows unsure boxes", "tasks/detection:DRAWN_SCORE", "0.3", "0.1", NUMBERS),
    ("a report has two images", "page/report:NUM_EXAMPLES", "4", "2", NUMBERS),
    ("patches of a report have nine cells", "page/analysis:PATCH", "4", "3", NUMBERS),
]
