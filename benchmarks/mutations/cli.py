"""The command line: options that do not arrive, exit statuses that lie, parts of an error that go missing."""

BUILD, REACH = "tests/cli/test_build_as_typed.py", "tests/cli/test_options_reach.py"
TYPED = f"{BUILD}::test_an_option_of_build_reaches_the_builder_and_changes_nothing_else"
REFUSED = f"{BUILD}::test_a_value_that_build_cannot_use_is_answered_in_three_parts_with_status_2"
GIVEN = f"{REACH}::test_training_is_given_the_options_that_were_typed_and_no_others"
STOPPED = f"{REACH}::test_ctrl_c_ends_training_with_130_and_says_what_there_is"
EVAL = f"{REACH}::test_eval_asks_for_what_was_typed"
FIGURES = f"{REACH}::test_eval_shows_percent_and_writes_ratios_with_null_for_a_class_that_never_occurs"
VERIFY = f"{REACH}::test_verify_runs_the_teacher_again_only_when_asked_and_on_the_rows_that_were_typed"
DRY = "tests/cli/test_chain.py::test_dry_run_prints_the_commands_and_runs_nothing"
NAME = "cli/kdcache:build_options"
CHANGES = "tests/cli/test_look_at_changes.py"
COMPACT = "tests/cli/test_compact.py"
COPIED = f"{COMPACT}::test_damage_is_named_before_anything_is_copied"
PLAIN = f"{COMPACT}::test_a_copy_lies_beside_the_other_caches"
KILLED = f"{COMPACT}::test_a_copy_that_was_killed_is_in_nobodys_way_and_every_command_says_how_it_ends"
MOVED = (
    "tests/cli/test_owner_commands.py"
    "::test_data_that_were_moved_are_named_by_the_line_that_every_build_prints"
)
NAMED = f"{CHANGES}::test_of_several_caches_one_is_named_as_every_command_takes_it"
TARS = f"{CHANGES}::test_bytes_of_a_tar_are_shown_for_each_tap_that_lies_in_it"

MUTANTS = [
    # kdcache build
    ("--mean is not passed on", NAME, "mean=mean, ", "", TYPED),
    ("--mirror is not passed on", NAME, "mirror=mirror, ", "", TYPED),
    ("--zstd is not passed on", NAME, "zstd=zstd, ", "", TYPED),
    ("--split is not passed on", NAME, "split=split, ", "", TYPED),
    ("--seed of a build is not passed on", NAME, ", seed=seed", "", TYPED),
    ("--skip-bad is not passed on", NAME, "skip_bad=skip_bad, ", "", TYPED),
    ("--update is a repair", NAME, "update=update, repair=repair", "update=repair, repair=update", TYPED),
    ("--shard-rows is always auto", NAME, 'shard_rows == "auto"', "shard_rows", TYPED),
    ("--threads of a build is the batch size", NAME, "threads=threads", "threads=batch_size", TYPED),
    ("only the last --tap is kept", NAME, "for t in taps)", "for t in taps[-1:])", TYPED),
    ("a megabyte of --memory is a million bytes", "_UNITS", "1 << 20", "1_000_000", TYPED),
    ("fractions of --memory are cut off", "sizes:parse_size", "int(float(match[1]) * ",
     "int(int(float(match[1])) * ", TYPED),
    ("--crop of a build has its sides swapped", "views/crop:parse_crop", "sizes[0], sizes[-1]",
     "sizes[-1], sizes[0]", TYPED),
    ("--for splits a loss at the commas of its options", "kdcache:_split", r'r",(?![^(]*\))"', '","',
     f"{BUILD}::test_for_asks_for_the_needs_of_every_loss_and_commas_in_brackets_separate_options"),
    ("--for caches for the first loss alone", "_needs_of", "for name in names for",
     "for name in names[:1] for",
     f"{BUILD}::test_for_asks_for_the_needs_of_every_loss_and_commas_in_brackets_separate_options"),
    ("a build without --device stays on the CPU", "pick_device", 'if torch.cuda.is_available() else "cpu"',
     'if False else "cpu"', f"{BUILD}::test_a_device_that_nobody_typed_is_the_gpu_where_there_is_one"),
    ("a device that does not exist is passed to torch", "pick_device", 'text.startswith("cuda") and',
     "False and", REFUSED),
    ("a size of 0 is taken", "sizes:parse_size", "least <= num_bytes <=", "0 <= num_bytes <=", REFUSED),
    ("a count of 0 is taken", "parse_count", "1 <= count <=", "0 <= count <=", REFUSED),
    ("every rank prints", "cli/kdcache:build", '"0")) == 0', '"0")) <= 1',
     f"{BUILD}::test_build_says_how_many_rows_it_wrote_and_where_and_a_second_rank_says_nothing"),
    ("a build that was stopped counts as done", "shared:_stopped", "else 128 + signal.SIGINT", "else 0",
     f"{BUILD}::test_ctrl_c_ends_a_build_with_130_and_says_that_the_same_command_continues"),
    # errors
    ("an error exits with 1", "EXIT_KD_ERROR", "2", "1", REFUSED),
    ("an error exits with 0", "shared:_end", "sys.exit(EXIT_KD_ERROR)", "sys.exit(0)", REFUSED),
    ("an error goes to stdout", "terminal:say_error", ", file=sys.stderr)", ")", REFUSED),
    ("an error's place is not printed", "shared:_end", 'str(error)', 'str(error.what)', REFUSED),
    ("a fault of the program is an error of the user", "shared:as_kd_error", "return None\n",
     "return BadOption(str(error), where='', fix='')\n",
     f"{BUILD}::test_a_fault_of_the_program_keeps_its_traceback"),
    ("Ctrl-C exits as an error", "shared:_stopped", "128 + signal.SIGINT", "1", STOPPED),
    # kdtrain
    ("options that were not typed are passed on too", "written", "is ParameterSource.COMMANDLINE",
     "is not None", GIVEN),
    ("--resume is forgotten", "kdtrain:kdtrain", 'resume=bool(own["resume"])',
     "resume=False",
     f"{REACH}::test_resume_is_a_wish_of_its_own_and_no_option_of_the_run"),
    ("--no-aux is the same as --aux", "train_option", 'f"{flag(name)}/--no-{flag(name)[2:]}", name,',
     'flag(name), f"--no-{flag(name)[2:]}", name, is_flag=True,', GIVEN),
    ("percents of --milestones are taken as they are", "steps/options:_share", "float(text[:-1]) / 100",
     "float(text[:-1])", GIVEN),
    ("--crop reaches training as text", "StreamOptions", "        read=crop_size.parse_crop,\n", "", GIVEN),
    ("a run looks for its folders where it was started", "kdtrain:_train", "home=home_folder()",
     "home=Path.cwd()", "tests/cli/test_kdtrain.py"),
    ("a stopped run says nothing of what is kept", "shared:_stopped", "{said or", "{'' or", STOPPED),
    ("every rank says that it stopped", "shared:_stopped", 'os.environ.get("RANK", "0") == "0"', "True",
     STOPPED),
    # eval and its figures
    ("eval judges the best exit", "eval_command", '("run", "split", "out", "quiet")',
     '("run", "split", "out", "quiet", "exit_number")', EVAL),
    ("eval ignores --data", "eval_command", '("run", "split", "out", "quiet")',
     '("run", "split", "out", "quiet", "data")', EVAL),
    ("eval judges on val whatever was typed", "kdtrain:_judged",
     "home=home_folder(), split=split", 'home=home_folder(), split="val"', EVAL),
    ("the title does not say which exit was judged", "show_judged", "exit_number is not None", "False", EVAL),
    ("figures per class are ratios with a percent sign above", "show_judged", "100 * ratio", "ratio",
     FIGURES),
    ("a class that never occurs counts 0 in the file", "judge/metrics.py:plain",
     "None if math.isnan(value)", "0.0 if math.isnan(value)", FIGURES),
    ("the file says another split", "judged_record", '"split": split', '"split": "test"', FIGURES),
    # looking
    ("verify with damage exits with 0", "look:verify", "SystemExit(1)", "SystemExit(0)",
     "tests/cli/test_owner_commands.py::test_verify_reports_damage_with_exit_status_1"),
    ("verify compares 8 rows whatever was typed", "look:verify", "weights, teacher), rows, terminal)",
     "weights, teacher), 8, terminal)", VERIFY),
    ("verify never runs the teacher", "look:verify", "if good and deep:", "if deep and not good:", VERIFY),
    ("verify runs the teacher of another name", "look:verify", "weights, teacher), rows", "weights), rows",
     VERIFY),
    ("show ignores --cache", "look:show", "_one_cache(cache, named)", "cache", NAMED),
    ("verify ignores --cache", "look:verify", "_one_cache(cache, named)", "cache", NAMED),
    ("of two caches one is ignored", "_one_cache", "cache != named", "False", NAMED),
    ("each tap of a tar is as large as the other", "record/sums:taken_by", "raw or values",
     "dict.fromkeys(owners, 1)", TARS),
    ("bytes of a tar belong to no tap", "record/sums:taken_by", " or record.targets", "", TARS),
    ("peek takes a view that is not there", "look/peek:peek", "    _require_view(cache, view)\n", "",
     "tests/cache/look/test_peek.py::test_a_view_that_is_not_there_offers_those_that_are"),
    ("peek draws view 0", "look:peek", "key, view, out)", "key, 0, out)",
     f"{REACH}::test_peek_draws_the_sample_the_view_and_the_file_that_were_typed"),
    ("taps ignores --classes", "look:taps", "classes, output_stride, task", "19, output_stride, task",
     f"{REACH}::test_taps_lists_shapes_of_the_input_and_the_classes_that_were_typed"),
    ("taps ignores --crop", "look:taps", "parse_crop(crop) or default", "default",
     f"{REACH}::test_taps_lists_shapes_of_the_input_and_the_classes_that_were_typed"),
    ("taps shows values as bytes", "tap_rows", "part.num_bytes for part", "1 for part",
     f"{REACH}::test_taps_lists_shapes_of_the_input_and_the_classes_that_were_typed"),
    # compact
    ("what is copied is not checked before", "build/compact.py:compact", "    copy.check()\n", "", COPIED),
    ("consent is asked for after a folder was made", "Copy.check", "cache.codec(name)", "pass",
     "tests/cli/test_strangers.py"
     "::test_a_strange_codecs_cache_is_copied_by_the_line_that_the_refusal_prints"),
    ("targets are copied unchecked", "Cache.check_targets", "self.check_object(entry)", "pass", COPIED),
    ("a copy writes over what a build has begun", "_refuse_others",
     "(begun and not is_unfinished_copy(out))", "False",
     f"{COMPACT}::test_what_a_build_has_begun_is_not_written_over"),
    ("a copy that did not end is one of several caches", "list_begun",
     "and not is_unfinished_copy(path)", "", KILLED),
    ("the copy is one of several caches", "find_cache", "or path.name != besides", "or True", KILLED),
    ("a copy that did not end is called a build", "refuse_unfinished_copy", "if is_unfinished_copy(root):",
     "if False:", KILLED),
    ("verify calls a copy that did not end a build", "check_seals", "if is_unfinished_copy(root):",
     "if False:", KILLED),
    ("a copy is called by no name", "is_name", "re.match(_NAME, text) is not None and", "", PLAIN),
    ("a copy's name is longer than a folder's", "is_name",
     " and len(os.fsencode(text)) <= MAX_NAME_BYTES", "", PLAIN),
    # data that moved
    ("data that were moved are asked for without their cache", "open_remembered",
     '["--cache", cache] if cache and not typed_option("--cache") else []', "[]", MOVED),
    ("a cache of data that moved twice is not named", "_cache_of", " or list(specs)", "", MOVED),
    # chain
    ("a chain goes on after a command that failed", "chain:_run", "raise SystemExit(status)", "return",
     "tests/cli/test_chain.py"),
    ("--dry-run runs the commands", "chain:_run", "0 if dry else execute(command)", "execute(command)",
     DRY),
    ("a chain forgets --augment in its builds", "OF_BUILDING", '"augment", ', "", DRY),
    ("an unwanted head is asked for", "cli/training/chain:_arguments", 'f"--no-{flag}"', 'f"--{flag}"', DRY),
    ("a link's own length is ignored", "cli/training/chain:_training", '{"epochs": link.epochs}', "{}", DRY),
]  # fmt: skip
