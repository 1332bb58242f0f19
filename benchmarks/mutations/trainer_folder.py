"""The run folder: checkpoints, figures, names, what a run was computed with, how an option is declared. Each
change would lose a run, mix two of them up, or let a file run code."""

CHECKPOINT = "tests/trainer/folder/test_checkpoint.py"
RUN = "tests/trainer/folder/test_run_folder.py"
LOG = "tests/trainer/folder/test_metrics_log.py"
HOME = "tests/trainer/folder/test_home.py"
ENVIRONMENT = "tests/trainer/folder/test_environment.py"
ATOMIC = "tests/trainer/folder/test_atomic_file.py"
CONFIG = "tests/trainer/test_config.py"
FLIPPED = f"{CHECKPOINT}::test_one_flipped_byte_is_found_and_the_file_named"
KILLED = f"{CHECKPOINT}::test_a_save_killed_anywhere_leaves_the_checkpoint_before_it"
NAMES = f"{HOME}::test_ablations_of_one_cache_have_names_of_their_own"
STREAM = f"{ENVIRONMENT}::test_a_run_goes_on_only_on_what_it_began_with"
IMPOSSIBLE = f"{CONFIG}::test_each_impossible_option_is_named_with_its_remedy"

MUTANTS = [
    # ---- checkpoints
    ("only the last checkpoint is kept", "KEPT", "2", "1", CHECKPOINT),
    ("checkpoints are never removed", "save_checkpoint", "[:-KEPT]", "[:0]",
     f"{CHECKPOINT}::test_the_last_two_are_kept"),
    ("a run goes on from its oldest checkpoint", "load_latest", "finished[-1]", "finished[0]",
     f"{CHECKPOINT}::test_the_last_two_are_kept {CHECKPOINT}"),
    ("a damaged checkpoint is loaded", "_check_digest", "if actual != stored:", "if False:", FLIPPED),
    ("progress is not among what is checked", "_write_parts",
     "for path in sorted(folder.iterdir())}", 'for path in sorted(folder.glob("*.pt"))}', CHECKPOINT),
    ("loading a checkpoint runs what is in it", "_load_part",
     "read_tensors(path)", "torch.load(path, weights_only=False)",
     f"{CHECKPOINT}::test_a_checkpoint_cannot_run_code"),
    ("a checkpoint has its name before its bytes are on disk", "save_checkpoint",
     "_TEMPORARY}step-{step:08d}", "''}step-{step:08d}", KILLED),
    ("a killed save leaves its litter", "folder/checkpoint.py:sweep", "shutil.rmtree(litter)", "pass",
     KILLED),
    ("a checkpoint on a full disk is taken for a whole one", "save_checkpoint",
     "        raise\n", "        return final\n",
     f"{CHECKPOINT}::test_a_full_disk_keeps_the_last_checkpoint_and_says_so"),
    # ---- who may write, and the figures
    ("a run with figures is overwritten", "began_only", "not lines and names", "names",
     f"{RUN}::test_a_run_that_got_anywhere_is_never_overwritten"),
    ("a run that never began blocks its name", "began_only", "not lines and names <= known", "False",
     f"{RUN}::test_a_run_that_failed_before_its_first_step_does_not_block_its_name"),
    ("two processes train one run", "run_folder.py:_lock", "fcntl.LOCK_EX", "fcntl.LOCK_SH",
     "tests/trainer/test_loop.py::test_a_second_process_on_the_same_run_is_refused"),
    ("the figures of the checkpoint's own step are lost", "MetricsLog.__init__", "<= keep_until",
     "< keep_until", LOG),
    ("figures of a killed run stay behind its checkpoint", "MetricsLog.__init__",
     "if step <= keep_until", "if True", LOG),
    ("a line that a kill cut in two is kept", "metrics_log.py:_lines", "return whole, bool(last)",
     "return [*whole, last], bool(last)", LOG),
    ("figures wait in memory while a checkpoint stands for them", "MetricsLog.sync",
     "        self._file.flush()\n", "", LOG),
    # ---- files
    ("a kill leaves half a file", "folder/atomic_file.py:write_bytes",
     'path.with_name(f".tmp-{path.name}")', "path", ATOMIC),
    ("a file has its name before its bytes are on disk", "folder/atomic_file.py:write_bytes",
     "        sync(temporary)\n        os.replace(temporary, path)\n",
     "        os.replace(temporary, path)\n        sync(path)\n", ATOMIC),
    ("a name may be lost with the power", "folder/atomic_file.py:write_bytes", "    sync(path.parent)\n", "",
     ATOMIC),
    # ---- names
    ("runs of several seeds have one name", "default_run_name",
     'parts += [f"seed{seed}"] if seed else []', "pass", NAMES),
    ("a run with a live teacher has the name of one without", "default_run_name",
     'parts += ["online"] if online else []', "pass", NAMES),
    ("data are remembered as they were typed", "absolute_spec", "user_path(folder).resolve()",
     "user_path(folder)",
     f"{HOME}::test_data_are_remembered_by_their_absolute_folder"),
    ("a cache elsewhere is remembered by its name alone", "cache_label",
     "cache_dir.name if inside else", "cache_dir.name if True else", HOME),
    ("any folder under runs/ is a run", "find_run", "if (run_dir / CONFIG_NAME).is_file():",
     "if run_dir.is_dir():", HOME),
    # ---- environment
    ("a run goes on with other targets", "refuse_other_stream", "if then == now:", "if True:", STREAM),
    ("a run goes on with more samples", "refuse_other_stream", "if then == now:",
     "if {k: now.get(k) for k in then} == then:", STREAM),
    ("the number of ranks is not kept", "describe_environment", '"world": world', '"world": 1', ENVIRONMENT),
    # ---- options
    ("a word that no option has is taken", "Section.__post_init__",
     "value not in words.choices", "False", IMPOSSIBLE),
    ("a number outside its limits is taken", "Section.__post_init__",
     "not words.legal.holds(value)", "False", IMPOSSIBLE),
    ("a run may be called as a path", "FolderOptions.check", 'or "/" in self.run', "", IMPOSSIBLE),
    ("an option is not said as it is typed", "option_field.py:flag", 'name.replace("_", "-")', "name",
     IMPOSSIBLE),
]  # fmt: skip
