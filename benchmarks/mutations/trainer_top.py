"""What joins the rooms of the trainer: runs, the loop, the options' file, ranks, reports, chains. Each change
would continue, judge or report another run than the user meant."""

CONFIG = "tests/trainer/test_config.py"
LOOP = "tests/trainer/test_loop.py"
RUN = "tests/trainer/test_run.py"
REPORTER = "tests/trainer/test_reporter.py"
RANKS = "tests/trainer/test_ranks.py"
CHAIN = "tests/trainer/test_chain.py"
ASSEMBLED = "tests/trainer/test_assemble_forms.py"
KILLED = f"{LOOP}::test_killed_inside_an_accumulation_and_resumed_ends_bit_identical"
EXPORT = f"{LOOP}::test_killed_between_the_checkpoint_and_the_export_exports_on_resume"
REPORTED = f"{LOOP}::test_every_step_is_reported_once_and_the_end_is_validated"
BEST = f"{LOOP}::test_the_exported_student_is_the_best_one_on_validation"
JUDGED = f"{RUN}::test_a_run_is_judged_on_the_split_and_at_the_size_that_it_learned"
VALIDATED = f"{RUN}::test_a_student_is_validated_on_the_validation_split"
FINISHED = f"{CHAIN}::test_a_link_is_finished_when_its_card_says_so"
TAUGHT = f"{CHAIN}::test_the_next_link_is_taught_by_the_newest_cache_of_these_weights"
LINKS = f"{CHAIN}::test_a_link_is_named_after_all_before_it_so_that_chains_with_one_beginning_share_it"
SPANS = f"{RANKS}::test_batch_statistics_span_several_gpus_unless_it_is_refused"

MUTANTS = [
    # ---- run, assemble
    ("data typed from another folder do not continue a run", "continued", "absolute_spec(now[option])",
     "now[option]", RUN),
    ("a run is judged on data of other classes", "_refuse_other_classes",
     "other_classes(card.class_names, source.class_names)", '""', RUN),
    ("classes in another order are taken for the same", "other_classes",
     "if pair[0] != pair[1]", "if False", RUN),
    ("--split of eval is ignored", "evaluate_run", "open_source(spec, split)", 'open_source(spec, "val")',
     JUDGED),
    ("a run is judged at the size of the data", "evaluate_run", "input_size=card.crop",
     "input_size=(224, 224)", JUDGED),
    ("--exit judges the whole network", "evaluate_run", "if exit_number is None else load_exit",
     "if True else load_exit", JUDGED),
    ("a student is validated on what it learns from", "_validation",
     'open_source(run_source.spec, "val")', 'open_source(run_source.spec, "train")', VALIDATED),
    ("a student is validated on the test split where there is no other", "_validation",
     'if "val" not in splits(run_source.spec):', "if False:", VALIDATED),
    ("first weights are the same under every --seed", "assemble", "torch.manual_seed(config.seed)",
     "torch.manual_seed(0)", "tests/trainer/test_seed.py"),
    ("first weights differ between two runs of one --seed", "assemble",
     "    torch.manual_seed(config.seed)", "    pass", "tests/trainer/test_seed.py"),
    # ---- the loop
    ("a resumed run begins its data again", "rounds:make_steps", "stream.run(first * accumulate)",
     "stream.run(0)", KILLED),
    ("a resumed run goes on at another micro step", "rounds:make_steps", "stream.run(first * accumulate)",
     "stream.run(first)", KILLED),
    ("a best student whose export was killed is lost", "Run.begin",
     'self.best["step"] == self.first', "False", EXPORT),
    ("steps are counted from 0 in the figures", "Run.step", "self.reporter.add(step + 1,",
     "self.reporter.add(step,", REPORTED),
    ("the last student is exported at the end", "Run._finish",
     "None if self.best is not None else", "", BEST),
    ("a run ends without a validation of its end", "due", "done == total or", "",
     f"{REPORTED} tests/trainer/steps/test_schedule.py"),
    ("the card has the figures of the best as those of the end", "Run._finish",
     '{"step": steps, **self.last}', "(self.best or {})", BEST),
    # ---- options
    ("a run is continued under another option", "merge_for_resume",
     "if name not in free and value != old:", "if False:", CONFIG),
    ("--threads is not free on resume", "merge_for_resume", "for name, value in given.items() if name in",
     "for name, value in () if name in", CONFIG),
    ("an unknown option in a file is passed over", "_read_values",
     'raise unknown("option", name, legal, where=str(path))', "continue", CONFIG),
    ("tuples come back as lists", "_read_values", "tuple(value) if isinstance(value, list) else value",
     "value", CONFIG),
    ("options stand in the file by their names", "TrainConfig.to_dict",
     "(*_FILE_ORDER, *later)", "sorted((*_FILE_ORDER, *later))", CONFIG),
    # ---- ranks
    ("batch statistics span GPUs only when asked for", "uses_sync_bn", "options.sync_bn is not False",
     "options.sync_bn is True", SPANS),
    ("--no-sync-bn is ignored", "uses_sync_bn", "options.sync_bn is not False", "True", SPANS),
    ("--sync-bn on CPU ranks is passed over", "uses_sync_bn", "if options.sync_bn:", "if False:",
     f"{RANKS}::test_batch_statistics_over_cpu_ranks_are_refused"),
    ("fp16 runs on a CPU", "check_device", 'amp == "fp16" and', "False and", RANKS),
    ("the image pipeline decodes on the first GPU for every rank", "Ranks.device_id",
     "(self.device.index or 0)", "0", RANKS),
    # ---- reports
    ("a GPU is waited for in every step", "Reporter.add", "step % self._every == 0", "True", REPORTER),
    ("losses of several steps are summed for people", "_mean_terms", " / len(good)",
     "", REPORTER),
    ("losses are written twice", "Reporter.flush", "        self._pending.clear()\n", "", REPORTER),
    ("a loss that is not finite passes", "Reporter._check",
     "if not wrong:", "if True:", REPORTER),
    ("a loss that is not finite passes unless it is the last one read", "Reporter.flush",
     "self._check(step, result, terms, faults)",
     "self._check(step, result, rows[-1][0], faults)", REPORTER),
    ("bare formulas stand among the weighted losses", "_by_kind",
     "{k: v for k, v in plain.items() if not k.startswith(UNWEIGHTED)}", "dict(plain)", REPORTER),
    # ---- chains
    ("links of two chains share a run though their teachers differ", "read_links",
     "*texts[: place + 1]", "texts[place]", LINKS),
    ("the first link of a chain distils", "read_links", 'loss if place else "none"', "loss", LINKS),
    ("@EPOCHS of a link is ignored", "read_links", "_epochs(given, text) if at else None", "None", LINKS),
    ("a link that was stopped counts as finished", "state_of",
     "done == read_config(run_dir).steps", "done is not None", FINISHED),
    ("a link is taught by a cache of its teacher's older weights", "cache_of",
     'and manifest.identity["weights"] == weights', "", TAUGHT),
    ("a link is taught by the cache of another run of these weights", "cache_of",
     "manifest.teacher_origin == link.run and", "", TAUGHT),
    ("a link is taught by the oldest cache", "cache_of", "return max(caches", "return min(caches", TAUGHT),
]  # fmt: skip
