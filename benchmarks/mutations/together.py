"""Runs of one process on one stream: none of them may notice the others, whatever becomes of them."""

GROUP = "tests/trainer/together/test_group.py::test_"
SAME = f"{GROUP}every_run_ends_with_the_bits_that_it_has_alone"
ONCE = f"{GROUP}a_batch_is_drawn_once_for_all"
SIGNAL = f"{GROUP}a_signal_ends_all_at_one_step_and_they_go_on_to_the_same_bits"
FAILS = f"{GROUP}a_run_that_fails_ends_alone"
BROKEN = f"{GROUP}an_error_of_the_stream_ends_all_with_what_each_would_say"
LATE = f"{GROUP}runs_at_different_steps_go_on_together"
WRITES = f"{GROUP}a_run_that_writes_into_what_all_read_is_told_by_name"
SWEEP = "tests/cli/bench/test_together.py::test_"
CELLS = f"{SWEEP}cells_of_one_process_are_the_runs_of_their_commands_bit_for_bit"
SETS = f"{SWEEP}cells_of_other_batches_and_more_than_n_are_in_other_processes"
RETRY = f"{SWEEP}a_cell_that_fails_ends_alone_with_its_error_and_waits_for_retry"
BUG = f"{SWEEP}a_bug_in_one_cell_is_told_with_where_it_was_and_the_others_go_on"

MUTANTS = [
    (
        "each run of a set draws batches of its own",
        "rounds:_Drawn.reader",
        "self._read() if self._several else self._batches",
        "self._batches",
        SAME,
    ),
    (
        "targets are decoded for each run",
        "shared:SharedStream.targets",
        "if answers is None:",
        "if True:",
        ONCE,
    ),
    (
        "a run is trained from step 0 again where the others begin",
        "rounds:_round",
        "run.first <= step < run.config.steps",
        "step < run.config.steps",
        LATE,
    ),
    (
        "the set begins where its last run is",
        "rounds:make_steps",
        "first = min(",
        "first = max(",
        LATE,
    ),
    (
        "a run that ends at a signal keeps no checkpoint of its step",
        "loop:Run.stop",
        "if done > self.saved:",
        "if False:",
        SIGNAL,
    ),
    (
        "an error of one run ends all",
        "group:_Group._turn",
        "with self._apart(seat, Exception, Stopped):",
        "with self._apart(seat, Stopped):",
        FAILS,
    ),
    (
        "wrong options of one run end all",
        "group:_Group.open",
        "with self._apart(seat, Exception):",
        "with self._apart(seat, Stopped):",
        f"{GROUP}a_run_whose_options_are_wrong_leaves_no_folder_and_the_others_go_on",
    ),
    (
        "runs go on without the stream",
        "shared:SharedStream.run",
        "self.failed = error",
        "pass",
        BROKEN,
    ),
    (
        "a run that writes into the batch spoils the others",
        "shared:SharedStream.changed",
        "tensor._version != version",
        "False",
        WRITES,
    ),
    (
        "cells of different seeds share a stream",
        "alike:_ALIKE",
        '    "seed",\n',
        "",
        SETS,
    ),
    (
        "a process trains more cells than asked",
        "work:_Work._others",
        "if len(others) + 1 == self.machine.together:",
        "if len(others) + 1 == self.machine.together + 1:",
        SETS,
    ),
    (
        "a cell of a set fails without its error",
        "together:_Speaker.says",
        "for line in",
        "for line in () and",
        RETRY,
    ),
    (
        "a bug in a cell passes for a wrong option",
        "together:_Speaker.says",
        "return 1 if known is None else EXIT_KD_ERROR",
        "return EXIT_KD_ERROR",
        BUG,
    ),
    (
        "what a set trained is not judged",
        "together:train_together",
        "unjudged=speakers[name].judges()",
        "unjudged=0",
        CELLS,
    ),
    (
        "cells of a set are begun again instead of continued",
        "work:_Work._launch_set",
        "resume=resumes[cell.run]",
        "resume=False",
        f"{SWEEP}a_signal_ends_the_whole_set_at_one_step_and_the_same_command_goes_on",
    ),
    (
        "a live teacher is shared",
        "alike:alone_because",
        "if config.online:",
        "if False:",
        "tests/trainer/together/test_alike.py",
    ),
]
