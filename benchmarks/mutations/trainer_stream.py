"""Streams: the order of samples, which view each shows, who is mixed in, what a live teacher answers. Each
change would let a student see other samples, views or answers than the run says."""

ORDER = "tests/trainer/stream/test_order.py"
SEEDS = f"{ORDER}::test_another_epoch_and_another_seed_have_another_order"
PINNED = f"{ORDER}::test_the_order_is_the_one_that_earlier_versions_gave"
BLOCKS = f"{ORDER}::test_every_epoch_reads_other_blocks_together"
RANKS = f"{ORDER}::test_ranks_are_disjoint_and_together_are_the_global_batch_for_any_world_size"
BATCH = "tests/trainer/stream/test_batch.py"
VIEWS = "tests/trainer/stream/test_stored_views.py"
STORED = "tests/trainer/stream/test_stored_stream.py"
FRESH = "tests/trainer/stream/test_fresh.py"
STREAM = "tests/trainer/stream/test_stream.py"
TURNS = "tests/trainer/stream/test_class_alignment.py"
CHOOSE = "tests/trainer/stream/test_choose.py"
SOURCE = "tests/trainer/stream/test_run_source.py"
MEANS = "tests/trainer/stream/test_mean_targets.py"
LIVE = f"{STREAM}::test_a_live_teacher_answers_in_evaluation_mode_without_gradient_in_float32"

MUTANTS = [
    # ---- the order
    ("the order is the same under every --seed", "EpochOrder.__init__", "[seed & _WORD,", "[0,", SEEDS),
    ("every epoch has the order of the first", "EpochOrder.__init__", "epoch & _WORD]", "0]", SEEDS),
    ("blocks are read in the order of the disk in every epoch", "EpochOrder.__init__",
     "np.argsort(words,", "np.argsort(words * np.uint64(0),",
     BLOCKS),
    ("the last window of an epoch is a short one", "EpochOrder.__init__",
     "max(1, order.num_valid // full)", "-(-order.num_valid // full)",
     f"{ORDER}::test_blocks_that_do_not_fill_a_window_join_the_others"),
    ("an older version's order changed", "_STREAM", "0x6F72646572", "0x6F72646573",
     PINNED),
    ("invalid samples are visited", "Order.valid_of", "samples[valid], before[valid]", "samples, before",
     PINNED),
    ("a batch over two epochs is of one", "samples_at", "epochs = spots // order.num_valid",
     "epochs = spots * 0 + spots[0] // order.num_valid",
     f"{ORDER}::test_a_batch_that_straddles_two_epochs_names_the_epoch_of_each_sample"),
    ("accumulation reads more samples than --batch-size", "BatchLayout.micro_batch",
     "(self.world * self.accumulation)", "self.world", RANKS),
    # ---- batches
    ("a loss's memory is asked by the number of the view", "batch_of",
     "[row.sample for row", "[row.view for row", BATCH),
    ("the second class of mixed images is lost", "batch_of", "None if mixed is None else", "None and", BATCH),
    # ---- stored views
    ("all samples show the same stored view in an epoch", "CropViews.row",
     "(epoch + self._cache.key_hash(index))", "epoch", VIEWS),
    ("a sample shows the same stored view in every epoch", "CropViews.row",
     "(epoch + self._cache.key_hash(index))", "self._cache.key_hash(index)", VIEWS),
    ("quarter turns are four times the plain row", "CropViews.row", "first + quarter", "first",
     f"{TURNS}::test_every_view_of_a_turned_cache_is_visited_once_in_as_many_epochs"),
    ("views of an unfinished build are read", "_complete_sets", "[s for s in claimed if s in complete]",
     "claimed", f"{STORED}::test_views_that_are_claimed_but_not_finished_are_left_out_or_refused"),
    ("the image that is too small is named wrongly", "stored_views.py:_smallest", ".argmin()", ".argmax()",
     f"{STORED}::test_a_window_that_does_not_fit_names_the_image_and_the_largest_window"),
    ("a window may begin within a cell of the coarser map", "WindowViews.__init__",
     "math.lcm(*strides), math.gcd(*strides)", "math.gcd(*strides), math.gcd(*strides)",
     "tests/trainer/stream/test_alignment.py"),
    ("other pixels than the teacher saw are trained on", "pixel_check.py:_require", "if remade != stored:",
     "if False:",
     "tests/trainer/stream/test_pixel_check.py"
     "::test_a_row_that_is_made_again_with_other_pixels_stops_the_run_before_its_first_batch"),
    # ---- fresh views
    ("fresh views are those that a cache stores", "FreshStream._number", "(FRESH_VIEW + epoch)", "epoch",
     f"{FRESH} {STREAM}::test_fresh_views_never_repeat_a_stored_one"),
    ("an invalid sample is mixed in", "FreshStream._read_mates",
     "np.setdiff1d(np.arange(block * MIX_BLOCK, end), self._invalid)", "np.arange(block * MIX_BLOCK, end)",
     FRESH),
    ("the sample that is mixed in shows one view for ever", "FreshStream.row",
     "[key], epoch, quarter)", "[key], 0, quarter)", FRESH),
    ("fresh turns are drawn anew for every quarter", "FreshStream._number",
     "* self._per_sample + quarter", "* self._per_sample + 4 * quarter",
     f"{TURNS}::test_four_fresh_turns_show_one_sample"),
    ("every label is kept in memory", "SourceSamples.truth", "if truth.nbytes <= self._room:", "if True:",
     f"{STREAM}::test_labels_are_converted_once_while_there_is_room"),
    # ---- live teachers, ensembles
    ("a live teacher answers in training mode", "OnlineStream.targets", "self._teacher.eval()",
     "self._teacher.train()", LIVE),
    ("a live teacher's reduction is left out", "OnlineStream.targets",
     "reduce(values[t]) if reduce else values[t]", "values[t]",
     f"{STREAM}::test_a_live_teacher_applies_the_reduction_that_a_need_names"),
    ("an ensemble answers the sum of its members", "mean_of", ".mean(0)", ".sum(0)", MEANS),
    ("an ensemble's mean is taken in half precision", "mean_of", "values[n].float()", "values[n].half()",
     MEANS),
    # ---- what is chosen, and told
    ("the cache must keep what a live teacher is asked", "choose_stream",
     "() if teacher is not None else plan.needs", "plan.needs", CHOOSE),
    ("a loss over turns reads crops", "choose:_stored", "TURNS if turns else None", "None", CHOOSE),
    ("fresh views have the crop of --crop and not of the run", "choose_stream", "crop=run_source.crop",
     "crop=options.crop", CHOOSE),
    ("a memory has no place for indices behind an invalid sample", "RunSource.facts",
     "num_samples=count", "num_samples=self.num_samples", SOURCE),
    ("an epoch is as long as if every sample were valid", "RunSource.facts",
     "self.num_samples / batch_size", "count / batch_size", SOURCE),
    ("a live teacher's classifier is replaced by the cache's", "RunSource.facts",
     "if classifier_KD is None and self.cache is not None:", "if self.cache is not None:", SOURCE),
]  # fmt: skip
