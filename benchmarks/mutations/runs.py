"""Files of a run, signals and ranks: each change would take another value for what was written, lose steps
that were made, or let a rank wait for one that is gone."""

FLIPS = "tests/trainer/folder/test_flips.py"
LOG = "tests/trainer/folder/test_metrics_log.py"
STOPPING = "tests/trainer/test_stopping.py"
ENDS = f"{STOPPING}::test_a_signal_ends_the_step_and_leaves_a_checkpoint_from_which_the_run_ends_the_same"
GIVEN_UP = f"{STOPPING}::test_a_signal_ends_a_validation_at_once_and_it_is_made_up_for"
FAILED = f"{STOPPING}::test_a_validation_that_fails_loses_no_step_and_is_made_up_for"
STOP = "tests/cache/processes/test_stop.py"
LOST = "tests/trainer/test_lost_ranks.py"
LEFT = f"{LOST}::test_the_rank_that_is_left_ends_and_names_the_other_one"
READABLE = "tests/trainer/judge/test_readable.py"
CONFIG = "tests/trainer/test_config.py"
CARDS = "tests/cache/networks/test_run_folder.py"

MUTANTS = [
    # ---- files
    ("a card's seal is not compared", "opened_text", "        seal_of(content)\n", "        pass\n",
     f"{FLIPS}::test_of_the_card"),
    ("a line's check is not compared", "metrics_log.py:_read", "int(match[1], 16) != zlib.crc32",
     "False and zlib.crc32",
     f"{FLIPS}::test_of_the_figures"),
    ("a line without its check is one of before", "metrics_log.py:_read", "line.endswith(b'\"}')", "False",
     f"{FLIPS}::test_of_the_figures"),
    ("options that were changed go on", "check_config_seal", "== digest_bytes(text)", "is not None",
     f"{CONFIG}::test_options_that_were_changed_are_read_and_no_run_goes_on_with_them"),
    ("a comment that was a seal counts as none", "check_config_seal", "match is None and not commented",
     "match is None", f"{FLIPS}::test_of_the_options_where_a_run_goes_on_with_them"),
    ("a line that was cut short is left out in silence", "MetricsLog.__init__", "if torn:", "if False:", LOG),
    ("weights are private whatever the umask", "save_tensors", "    path.chmod(mode)\n", "",
     f"{CARDS}::test_the_weights_are_as_open_to_others_as_the_umask_says"),
    ("a mistyped run is not offered the nearest", "no_run", "if close else", "if False else",
     f"{CONFIG}::test_resuming_a_run_that_is_not_there_says_so"),
    ("none is no tracker that is offered", "FolderOptions.check", "(*TRACKERS, NO_TRACKER)", "TRACKERS",
     f"{CONFIG}::test_a_mistyped_tracker_is_offered_all_of_them_and_none"),
    # ---- signals
    ("a launcher's signal cuts off who is lost", "watching", "        failing()\n", "",
     f"{STOP}::test_a_rank_names_the_lost_one_although_the_launcher_ends_it_meanwhile"),
    ("a command after one that failed cannot be stopped", "stop.py:signals", "_now.failing = True, 0, False",
     "_now.failing = True, 0, True", STOP),
    ("a signal ends a run in the middle of a step", "loop.py:_train", "with finishing():",
     "with finishing(False):", ENDS),
    ("a stopped run leaves no checkpoint", "Run.stop",
     "            self._save(done, False, unjudged=unjudged)\n", "", ENDS),
    ("a validation that a stop left out is never made", "Run.stop", "unjudged=unjudged)",
     "unjudged=False)", ENDS),
    ("a resumed run forgets the validation that is due", "Run.catch_up", "if self.unjudged and",
     "if False and", GIVEN_UP),
    ("a signal waits for a whole validation", "Run._evaluated", "with finishing(False):",
     "with finishing():", GIVEN_UP),
    ("a validation that fails loses the steps before it", "Run._evaluated",
     "            if self.ranks.world == 1:\n", "            if False:\n", FAILED),
    ("the second signal is not heard", "_end_at_the_second", "end_now(128 + read[0])", "pass",
     f"{STOP}::test_the_second_ends_a_process_that_never_asks"),
    ("what a launcher hands on ends a rank", "_end_at_the_second", "not echoes or", "True or",
     f"{STOP}::test_what_a_launcher_hands_on_is_no_second_signal"),
    ("a chain leaves its child alone", "in_a_process", "child.send_signal(stop.number)", "pass",
     f"{STOP}::test_a_child_keeps_its_work_before_its_parent_ends"),
    ("a stop without a checkpoint speaks of one", "checkpoint.py:going_on", "if finished:", "if True:",
     f"{STOPPING}::test_before_the_first_step_there_is_no_checkpoint_and_the_message_says_so"),
    # ---- validation data
    ("a bad validation file is found after the last step", "_validation",
     "    check_readable(source, rank=ranks.rank, world=ranks.world)\n", "", READABLE),
    ("a label that is not there is found after the last step", "check_readable",
     "or not all(path.exists() for path in source.files(index))", "", READABLE),
    ("the last sample is not looked at", "check_readable", "(count - 1)", "(count - 2)", READABLE),
    # ---- ranks
    ("a rank that was killed is waited for", "Watch._look", "not self._processes[peer].lives()", "False",
     LEFT),
    ("a rank that stands still is waited for", "Watch._look", "if self._is_silent(peer, silent_s):",
     "if False:", LEFT),
    ("ranks stop after different steps", "Watch.stops_after", 'return bool(self._steps.check(["stop"]))',
     "return bool(asked()) or bool(self._steps.check(['stop']))",
     f"{LOST}::test_a_stop_ends_all_ranks_after_the_same_step_whoever_was_asked"),
]  # fmt: skip
