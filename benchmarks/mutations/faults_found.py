"""What hostile files and environments found: figures of a run, holes, generations, memory."""

LOG = "tests/trainer/folder/test_metrics_log.py"
LOST = f"{LOG}::test_figures_that_are_lost_are_said_when_a_run_goes_on"
NO_FILE = f"{LOG}::test_what_is_no_file_of_lines_is_refused_and_can_be_moved_aside"
HOLES = "tests/trainer/folder/test_checkpoint_shape.py::test_no_digest_is_taken_of_a_terabyte_of_holes"
LISTED = "tests/cache/reader/test_hostile.py::test_damaged_generations_are_listed_once_however_many_there_are"
MEMORY = "tests/cli/test_refusals.py::test_memory_that_is_refused_is_a_sentence"
COMPLETE = "tests/cache/reader/test_hostile.py::test_targets_that_are_called_complete_have_their_records"

MUTANTS = [
    ("lost figures are not said", "MetricsLog.__init__", "max(steps, default=0) < keep_until", "False", LOST),
    ("figures that are lost up to the checkpoint are not said", "MetricsLog.__init__",
     "max(steps, default=0) < keep_until", "steps and max(steps) < keep_until", LOST),
    ("figures that are there twice are not said", "MetricsLog.__init__", "steps != sorted(steps)", "False",
     f"{LOG}::test_figures_that_are_there_twice_are_said"),
    ("figures in order are said to be twice", "MetricsLog.__init__", "steps != sorted(steps)",
     "steps != sorted(set(steps))", f"{LOG}::test_figures_that_are_there_twice_are_said"),
    ("a pipe of figures is opened for more", "MetricsLog.__init__", "self._is_there()",
     "self.path.is_file()", NO_FILE),
    ("figures that cannot be read keep their traceback", "metrics_log.py:_lines",
     "except ValueError as error:", "except KeyError as error:", NO_FILE),
    ("what stands in the way of figures is not moved", "metrics_log.py:_lines", '["mv", str(path), ',
     '["ls", str(path), ', NO_FILE),
    ("a digest of a terabyte of holes is taken", "run_card.py:file_digest", "open_regular(path)",
     'path.open("rb")', HOLES),
    ("holes in a checkpoint keep their traceback", "checkpoint.py:_check_digest",
     "except ValueError as error:", "except KeyError as error:", HOLES),
    ("every damaged generation lists all", "read_generation", "if newest is None else newest",
     "if True else newest", LISTED),
    ("Python's own error of memory keeps its traceback",
     "out_of_memory", "isinstance(error, MemoryError) or ",
     "", MEMORY),
    ("what libraries say of memory is not understood", "out_of_memory",
     "any(words in text for words in _NO_MEMORY)", "False", MEMORY),
    ("every error is one of memory", "out_of_memory", "any(words in text for words in _NO_MEMORY)", "True",
     "tests/cli/test_refusals.py::test_a_bug_keeps_its_traceback"),
    ("show believes a generation", "look.py:show", "    opened.check_complete()\n", "", COMPLETE),
    ("records are looked for under the first view alone", "Cache.check_complete",
     "range(first, first + sets[first].count)", "range(first, first + 1)", COMPLETE),
]  # fmt: skip
