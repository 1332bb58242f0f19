"""Reading: the right row of the right shard, digests on first touch, nothing called complete that is not."""

CACHE, ROWS = "tests/cache/reader/test_cache.py", "tests/cache/reader/test_rows.py"
SAMPLES = "tests/cache/reader/test_samples.py"
COMPLETE = f"{CACHE}::test_a_set_of_views_is_complete_when_every_block_of_every_view_is"
NUMBERED = f"{CACHE}::test_samples_are_numbered_over_all_blocks"
RECORDED = f"{CACHE}::test_a_run_records_samples_views_and_every_target"
MIXED = f"{ROWS}::test_a_mixed_row_has_both_truths_and_its_share_and_a_lone_one_its_own_twice"
IMAGES = f"{ROWS}::test_each_row_has_its_own_image_and_that_of_its_partner"

MUTANTS = [
    # ---- what is there
    ("a target that is not kept is promised", "Cache.require", "if name not in self.manifest.tap_names:",
     "if False:", f"{CACHE}::test_a_target_that_is_not_kept_names_the_command_that_adds_it"),
    # ---- which row
    ("sample minus one is the last one", "StoredSamples._place", "if not 0 <= index < self.num_samples:",
     "if not index < self.num_samples:", NUMBERED),
    ("targets are read from the block before", "Cache._open", "            key,\n",
     "            key._replace(block=0),\n",
     f"{CACHE}::test_a_row_has_every_part_of_its_target"),
    ("all views of a block are read as its first", "Cache._open", "            key,\n",
     "            key._replace(view=0),\n",
     f"{CACHE}::test_a_row_has_every_part_of_its_target"),
    ("targets of a row are those of its block's first", "Cache.parts", "rows.row(row, part)",
     "rows.row(0, part)", f"{CACHE}::test_a_row_has_every_part_of_its_target"),
    # ---- damage and other tasks
    ("columns that cannot be true are taken", "StoredSamples._check_truth",
     "self._truth.check_columns(samples.columns, samples.valid)", "pass",
     f"{SAMPLES}::test_classes_of_other_samples_than_the_valid_ones_are_damage"),
    ("the truth of an invalid sample is given out", "StoredSamples.truth", "block.require_valid(row)", "pass",
     f"{SAMPLES}::test_classes_are_known_without_a_tar"),
    # ---- what a run records
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
