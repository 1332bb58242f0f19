"""Reading: the right row of the right shard, digests on first touch, nothing called complete that is not."""

CACHE, ROWS = "tests/cache/reader/test_cache.py", "tests/cache/reader/test_rows.py"
SAMPLES = "tests/cache/reader/test_samples.py"
PASSES = "tests/cache/reader/test_passes.py"
COMPLETE = f"{CACHE}::test_a_set_of_views_is_complete_when_the_generation_says_so"
WHOLE = (
    "tests/cache/build/test_settle.py"
    "::test_views_are_complete_when_every_one_of_them_is_there_for_every_block"
)
NUMBERED = f"{CACHE}::test_samples_are_numbered_over_all_blocks"
SPREAD = f"{CACHE}::test_a_sample_of_rows_is_spread_over_samples_and_views"
MIXED = f"{ROWS}::test_a_mixed_row_has_both_truths_and_its_share_and_a_lone_one_its_own_twice"
IMAGES = f"{ROWS}::test_each_row_has_its_own_image_and_that_of_its_partner"

MUTANTS = [
    # ---- what is there
    ("a target that is not kept is promised", "Cache.require", "for name in targets if name not in kept",
     "for name in targets if False",
     f"{CACHE}::test_a_target_that_is_not_kept_names_the_command_that_adds_it"),
    ("views are complete when their first one is", "complete_pairs",
     "range(views.first, views.first + views.count)", "range(views.first, views.first + 1)",
     WHOLE),
    ("views are complete when the first block is", "complete_pairs", "for block in blocks",
     "for block in blocks[:1]", WHOLE),
    ("views are complete when one of their targets is", "Cache.complete_views", "if all(Pair(",
     "if any(Pair(", COMPLETE),
    # ---- which row
    ("sample minus one is the last one", "StoredSamples._place", "if not 0 <= index < self.num_samples:",
     "if not index < self.num_samples:", NUMBERED),
    ("an unfinished shard ends in a traceback", "Cache.block_views", "if not keys:", "if False:",
     COMPLETE),
    ("an unfinished shard of one target ends in a traceback", "Cache._key", "if key is None:", "if False:",
     f"{PASSES}::test_a_target_that_was_never_finished_says_so_beside_one_that_was"),
    ("a key is found in the first block only", "StoredSamples.find", "return first + row", "return row",
     NUMBERED),
    ("valid samples are the invalid ones", "StoredSamples.living",
     "np.delete(np.arange(self.num_samples), self.invalid)", "self.invalid",
     f"{SAMPLES}::test_holes_lost_blocks_and_places_beyond_the_end_have_no_sample"),
    ("samples that were marked bad live", "build.py:_finish", "if not good}", "if False}",
     "tests/cache/build/test_build.py::test_skip_bad_keeps_the_place_and_marks_it"),
    ("targets are read from the block before", "Cache._open", "            key,\n",
     "            key._replace(block=0),\n",
     f"{CACHE}::test_a_row_has_every_part_of_its_target"),
    ("all views of a block are read as its first", "Cache._open", "            key,\n",
     "            key._replace(view=0),\n",
     f"{CACHE}::test_a_row_has_every_part_of_its_target"),
    ("targets of a row are those of its block's first", "Cache.parts", "rows.row(row, part)",
     "rows.row(0, part)", f"{CACHE}::test_a_row_has_every_part_of_its_target"),
    # ---- damage and other tasks
    ("the digests of samples are never compared", "StoredSamples.check_object",
     "if not self._check or entry.name in self._checked:", "if True:",
     f"{CACHE}::test_a_changed_byte_is_noticed_when_a_sample_is_first_read"),
    ("columns that cannot be true are taken", "StoredSamples._check_truth",
     "if len(samples):\n                self._truth.check_columns(", "if len(samples):\n                id(",
     f"{SAMPLES}::test_classes_of_other_samples_than_the_valid_ones_are_damage"),
    ("the truth of an invalid sample is given out", "StoredSamples.truth", "block.require_valid(row)", "pass",
     f"{SAMPLES}::test_classes_are_known_without_a_tar"),
    # ---- what a run records
    ("a run does not record which samples it read", "Cache.entry_digests",
     "[entry.seal for entry in self.generation.blocks]", "len(self.generation.blocks)",
     f"{CACHE}::test_a_run_records_which_samples_it_saw"),
    ("a run records its first target alone", "Cache.entry_digests", "for tap in m.taps:",
     "for tap in m.taps[:1]:",
     f"{PASSES}::test_a_run_records_the_targets_of_every_pass"),
    ("pixels are checked in the first shards only", "Cache.stored_rows", "living[k * len(living) // limit]",
     "living[k]", SPREAD),
    # ---- rows to feeds
    ("a row is mixed with its own image", "pixel_feed", "images.image(p.sample)",
     "images.image(rows[-1].sample)",
     IMAGES),
    ("a partner's truth is the row's own", "row_truth",
     "own if row.partner is None else _seen(samples, row.partner, truth)", "own", MIXED),
    ("shares of mixed truths are forgotten", "row_truth", ", row.own_share)", ")", MIXED),
    ("maps do not ride with their images", "feed_with_truth", "if truth.rides else []", "if False else []",
     f"{ROWS}::test_only_maps_ride_with_their_images"),
    ("truths do not move with their pixels", "_seen",
     "truth.moved(value, row.geometry, row.effects, samples.size(row.sample))", "value",
     f"{ROWS}::test_a_truth_is_moved_as_the_view_of_its_own_sample_says"),
]  # fmt: skip
