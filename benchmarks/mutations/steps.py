"""How a forward and a step are computed: memory format, threads, batch size, what is done beside them."""

LAYOUT = "tests/cache/networks/test_layout.py"
RUN_LAYOUT = "tests/trainer/steps/test_layout.py"
KEPT = "tests/cache/build/test_kept_forward.py"
WORDS = "tests/cache/views/test_words.py"
THREADS = "tests/cache/processes/test_threads.py"
ORDER = "tests/cache/processes/test_in_order.py"
DEPARTURE = "tests/cache/build/test_departure.py"
AHEAD = "tests/trainer/stream/test_ahead.py"
WAITING = "tests/trainer/steps/test_no_waiting.py"

MUTANTS = [
    # ---- memory format
    ("networks of dilated layers lie channels last", "faster_format",
     "CONTIGUOUS if dilated and output_stride <= FINE_STRIDE else CHANNELS_LAST", "CHANNELS_LAST", LAYOUT),
    ("no network lies channels last", "Network.__init__",
     "assembly.memory_format or faster_format(self.model, self.output_stride)", '"contiguous"', LAYOUT),
    ("code of one's own gets maps that it cannot view", "assemble_custom",
     "        memory_format=CONTIGUOUS,\n", "", LAYOUT),
    ("a run of before goes on in another format", "trainer/steps/layout:lay_out",
     "        network.lay_out(kept)\n", "        pass\n", RUN_LAYOUT),
    ("a run goes on contiguous whatever it wrote down", "trainer/steps/layout:lay_out",
     'began.get("memory_format", layout.CONTIGUOUS)', "layout.CONTIGUOUS", RUN_LAYOUT),
    ("a live teacher answers in another format than its cache's", "trainer/steps/layout:lay_out",
     "teacher.lay_out(cache.manifest.memory_format)", "pass", RUN_LAYOUT),
    ("a cache of before grows in another format", "TargetBuilder.__init__",
     "        self.network.lay_out(self.manifest.memory_format)\n", "",
     f"{KEPT}::test_a_cache_of_before_goes_on_contiguous_and_says_no_more_than_it_did"),
    # ---- rows at a time
    ("a repair takes the usual batch size", "_compute_again",
     "options.batch_size or plan.manifest.batch_size or USUAL_BATCH", "options.batch_size or USUAL_BATCH",
     f"{KEPT}::test_who_repairs_and_who_grows_takes_the_batch_size_that_was_kept"),
    ("a cache grows with the usual batch size", "build/build.py:_targets",
     "options.batch_size or begun.manifest.batch_size or USUAL_BATCH", "options.batch_size or USUAL_BATCH",
     f"{KEPT}::test_who_repairs_and_who_grows_takes_the_batch_size_that_was_kept"),
    ("the size of a trial is not kept", "with_batch_size", '"batch_size": size', '"batch_size": 8',
     f"{KEPT}::test_many_rows_are_tried_and_the_choice_is_kept_and_typed_again"),
    ("a trial takes the slowest size", "chosen_batch_size", "row_s * GAIN < best_s", "row_s > best_s % 1e9",
     f"{KEPT}::test_the_fastest_size_wins_and_a_larger_one_must_be_worth_it"),
    ("a trial takes more memory than was allowed", "_most_rows", "return num_bytes //", "return 9**9 //",
     f"{KEPT}::test_a_trial_stays_within_memory_and_time"),
    ("the command that makes a cache again leaves out its batch size", "repeat_words",
     "if manifest.batch_size is not None:", "if False:",
     f"{KEPT}::test_many_rows_are_tried_and_the_choice_is_kept_and_typed_again"),
    # ---- words
    ("the table of words begins one block late", "philox_words", "np.arange(1, blocks + 1",
     "np.arange(blocks",
     WORDS),
    ("behind a table words begin anew", "TableWords.__call__", "4 * TABLE_BLOCKS, None", "0, None", WORDS),
    # ---- threads and order
    ("decoding takes a core of its own", "plan_threads", "mine - (decoding - 1)", "mine - decoding", THREADS),
    ("further decoders come on top of the cores", "plan_threads", "mine - (decoding - 1)", "mine", THREADS),
    ("a control group's bound is ignored", "usable_cores", "for quota in _quotas()", "for quota in ()",
     THREADS),
    ("OMP_NUM_THREADS is ignored", "plan_threads", "given or max(", "max(", THREADS),
    ("idle threads spin", "calm", '"PASSIVE", str(MOMENT)', '"ACTIVE", "300000"', THREADS),
    ("idle threads sleep at once", "calm", "str(MOMENT)", '"0"', THREADS),
    ("a run goes on with other threads than it began with", "training_threads",
     "return plan._replace(torch=began)", "return plan", RUN_LAYOUT),
    ("an error of what decodes ahead ends the build in silence", "in_order:ahead", "raise error", "return",
     ORDER),
    ("threads beside a teacher bring helpers", "begun_alone", "torch.set_num_threads(1)", "pass", ORDER),
    ("they take the number of the main thread after all", "begun_alone", "torch.get_num_threads()  #",
     "pass  #", ORDER),
    ("later threads of the process compute by themselves too", "begun_alone", "torch.set_num_threads(mine)",
     "pass", ORDER),
    ("an error of what works behind is lost at the end", "Behind.__exit__", "raise self._failure", "pass",
     ORDER),
    # ---- a device
    ("a buffer is given back before it was read", "Departure.leave",
     "place = self._free.pop(0)", "place = self._free[0]", DEPARTURE),
    ("what arrived is written over by the next batch", "Leaving.arrive", ".copy()", "", DEPARTURE),
    ("a batch is copied only when its step begins", "one_ahead", "len(under_way) < 2", "len(under_way) < 1",
     AHEAD),
    ("an error of the stream is lost", "one_ahead", "            raise failure\n",
     "            return\n", AHEAD),
    ("a mixed batch leaves its second classes behind", "moved_batch",
     "Mixed(*(move(value) for value in batch.mixed))", "batch.mixed", AHEAD),
    ("a step waits for its losses", "Stepper.step", "micro.append(terms)",
     "micro.append(terms), terms.tolist()", WAITING),
]  # fmt: skip
