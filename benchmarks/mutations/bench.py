"""Sweeps, lists and removal: cells left out, trained twice or taken for another, work that is lost."""

SWEEP, LS = "tests/cli/bench/test_sweep.py", "tests/cli/bench/test_ls_rm_why.py"
DEFINITION = "tests/trainer/bench/test_sweep_definition.py"
FOLDER = "tests/trainer/bench/test_sweep_folder.py"
STATE = "tests/trainer/bench/test_run_state.py"
GRID = f"{DEFINITION}::test_the_grid_is_every_combination_once_with_none_beside_each_student_seed_and_point"
FAILS = f"{SWEEP}::test_a_failed_cell_holds_its_place_with_its_error_until_it_is_retried"
KILLED = f"{SWEEP}::test_a_killed_cell_is_no_failure_and_goes_on_from_its_checkpoint"
ALONE = f"{SWEEP}::test_a_cell_is_bit_for_bit_the_run_of_its_command_alone"
STOPPED = f"{STATE}::test_a_run_without_an_end_is_stopped_where_its_figures_or_its_checkpoint_are"

MUTANTS = [
    (
        "losses are compared with nothing on the stored views",
        "grid:_losses",
        "if place.cache is not None:",
        "if False:",
        GRID,
    ),
    (
        "fresh views are cut at another crop than the cache's",
        "grid:_cell",
        "{**place.fresh, **options}",
        "{**options}",
        GRID,
    ),
    (
        "runs on several caches are one",
        "grid:_unnamed",
        "if len(pixels) > 1 else []",
        "if False else []",
        f"{DEFINITION}::test_several_caches_have_runs_of_their_own_and_share_those_on_fresh_views",
    ),
    (
        "names that would be one are one",
        "grid:cells_of",
        "if name in names:",
        "if False:",
        f"{DEFINITION}::test_names_that_would_be_one_are_told_apart",
    ),
    (
        "a sweep's file lets its code run",
        "definition:read_definition",
        "if path is not None:\n        _require",
        "if False:\n        _require",
        f"{SWEEP}::test_consent_is_handed_on_and_a_file_gives_none",
    ),
    (
        "a definition that asks for more renames what is there",
        "sweep_folder:_joined",
        '"run": before.run',
        '"run": cell.run',
        f"{FOLDER}::test_a_cell_that_is_there_keeps_its_name_whatever_it_would_be_called_now",
    ),
    (
        "one name stands for two runs",
        "sweep_folder:_joined",
        "if before is None and cell.run in by_run:",
        "if False:",
        f"{SWEEP}::test_one_name_does_not_stand_for_two_runs",
    ),
    (
        "two sweeps train one cell",
        "sweep_folder:claimed",
        "yield False",
        "yield True",
        f"{FOLDER}::test_one_process_at_a_time_works_on_a_cell",
    ),
    (
        "a killed cell begins anew",
        "work:_Work._begun_before",
        "CONFIG_NAME).is_file()",
        "CONFIG_NAME).is_dir()",
        KILLED,
    ),
    ("a killed cell is a failure", "work:_Work._ended_as", "if number:", "if False:", KILLED),
    (
        "failed cells are tried again without being asked",
        "work:_Work._ready",
        "if error is not None:",
        "if False:",
        FAILS,
    ),
    (
        "a sweep with failed cells ends well",
        "cli/bench/sweep:_sweep",
        "raise SystemExit(1)",
        "raise SystemExit(0)",
        FAILS,
    ),
    (
        "finished students are not judged",
        "work:_lacks_scores",
        "return any(",
        "return False and any(",
        ALONE,
    ),
    (
        "a cell has another seed than it says",
        "grid:Cell.given",
        '"seed": self.seed',
        '"seed": 1',
        "tests/trainer/bench/test_sweep_definition.py",
    ),
    (
        "a run that was judged where it was trained is judged once more",
        "kdtrain:_judge_for_sweep",
        "if os.environ.get(JUDGES_VARIABLE) and",
        "if False and",
        f"{SWEEP}::test_a_run_is_judged_where_it_was_trained",
    ),
    (
        "a run that could not be judged there failed",
        "kdtrain:_judge_for_sweep",
        "with suppress(Exception):",
        "with suppress(KeyError):",
        f"{SWEEP}::test_what_cannot_be_judged_there_is_judged_by_a_process_that_says_why",
    ),
    (
        "every shard trains everything",
        "cli/bench/sweep:_sweep",
        "shard[0] :: shard[1]",
        "shard[0] :: 1",
        f"{SWEEP}::test_shards_share_the_cells_among_them_and_none_is_left_out",
    ),
    (
        "every job takes all cores",
        "work:Machine.threads",
        "// self.jobs",
        "// 1",
        f"{SWEEP}::test_cores_are_divided_among_jobs_and_one_job_is_left_as_it_is",
    ),
    (
        "an export before the last step counts as finished",
        "run_state:state_of",
        'metrics.get("final/step") == steps',
        '"final/step" in metrics',
        f"{STATE}::test_a_finished_run_is_what_its_card_and_its_judge_say",
    ),
    (
        "a run that trains is stopped",
        "run_state:state_of",
        'RunState("running" if is_held(run_dir) else "stopped"',
        'RunState("stopped"',
        STOPPED,
    ),
    (
        "the best score is the last",
        "run_state:_best",
        "max(values, default=None)",
        "values[-1] if values else None",
        STOPPED,
    ),
    (
        "a removal goes file by file where the cache lies",
        "removal:_remove",
        "os.rename(folder, target)",
        "target = folder",
        f"{LS}::test_a_removal_that_is_killed_leaves_no_cache_that_looks_whole",
    ),
    (
        "a cache is removed under a run that reads it",
        "removal:refuse_read",
        "    if readers:",
        "    if False:",
        f"{LS}::test_what_a_process_holds_is_not_removed",
    ),
    (
        "two caches of two crops differ in nothing",
        "identity_differences",
        "for name in names for one",
        "for name in names[:1] for one",
        f"{LS}::test_two_caches_differ_in_the_fields_that_made_them_two",
    ),
]
