"""Pixels that are decoded once or kept: each change would train on other pixels, truths or targets than
the image pipeline's, decode what need not be decoded, or keep what the teacher did not see."""

DECODED = "tests/cache/images/test_decoded.py"
BY_HAND = f"{DECODED}::test_every_crop_is_the_one_that_is_cut_by_hand"
LEVELS = "tests/trainer/stream/test_pixel_levels.py"
SHIFTED = f"{LEVELS}::test_images_that_are_decoded_once_give_the_batches_of_the_pipeline"
MAPS = f"{LEVELS}::test_label_maps_follow_images_that_are_decoded_once"
KEPT_MAPS = f"{LEVELS}::test_kept_label_maps_belong_to_their_pixels"
REASON = f"{LEVELS}::test_the_reason_is_said"
FREE = f"{LEVELS}::test_without_a_word_images_take_a_share_of_the_free_memory"
RETIRED = f"{LEVELS}::test_a_partner_that_retired_keeps_its_class_and_its_pixels"
PASSING = f"{LEVELS}::test_a_row_with_other_pixels_than_the_teacher_saw_stops_the_run"
KEEP = "tests/cache/build/test_keep_pixels.py"
GROWN = f"{KEEP}::test_a_cache_that_is_there_gets_its_pixels_without_a_forward"
SHARED = "tests/trainer/stream/test_shared_pixels.py"

MUTANTS = [
    # ---- crops of decoded images
    ("a flipped crop shows the image as it is", "Decoded.crops", "np.where(flipped, self.layout.half, 0)",
     "0",
     BY_HAND),
    ("rows below an image show the next image", "Decoded.crops", " | (rows >= heights[:, None])", "",
     BY_HAND),
    ("rows above an image show the one before", "Decoded.crops", "(rows < 0) | ", "", BY_HAND),
    ("padding on the left is not reckoned with", "reach_of", "(-g[:, CROP_X]).max(), ", "", BY_HAND),
    ("padding on the right is not reckoned with", "reach_of", ", beyond.max()", "", BY_HAND),
    ("memory is not filled before images are put", "Decoded.__init__", "if not written:", "if written:",
     BY_HAND),
    ("images that nobody reads take room", "layout_of", "np.where(kept, sizes[:, 0]",
     "np.where(True, sizes[:, 0]",
     f"{DECODED}::test_images_that_nobody_reads_take_no_room_and_mirror_images_only_where_crops_are_flipped"),
    # ---- batches
    ("every sample shows its first view", "CropViews.batch", "(chosen.astype(np.int64)[:, None]",
     "(0 * chosen.astype(np.int64)[:, None]", SHIFTED),
    ("mixed images are mixed with themselves", "DecodedPixels.images",
     "samples = np.where(mixed, others.samples, rows.samples)", "samples = rows.samples", SHIFTED),
    ("a partner that retired has no class", "arrays/batches:_column",
     "values[first : first + len(column)] = column",
     "values[first : first + len(column)] = column\n    values[cache.invalid] = -1", RETIRED),
    ("a partner that retired is not decoded", "choose_level", "kept |= table.mixed", "pass", RETIRED),
    ("maps are decoded and not put", "DecodedPixels.__init__", "kind.put(index, one)",
     "kind.put(index, one) if kind is kinds[0] else None", MAPS),
    # ---- which way
    ("--stream dali is not heard", "choose_level", "rule.stream == DALI", "False", REASON),
    ("--pixel-memory bounds nothing", "choose_level", "(needed := layout.num_pixels * channels) > room",
     "(needed := layout.num_pixels * channels) < 0", REASON),
    ("views that resize are cropped as they are", "levels:_reach", ".any():\n            return None",
     ".any() and False:\n            return None",
     f"{LEVELS}::test_views_that_resize_go_through_the_pipeline_and_the_run_says_so"),
    ("decoded images may take all free memory", "levels:_room", "free // SHARE", "free", FREE),
    ("rows of arrays are not compared with what the teacher saw", "ArrayBatches.batch", "if not windows:",
     "if windows:", PASSING),
    # ---- kept
    ("a window that leaves a kept image is not filled up", "KeptPixels._read", "out[place] = fill",
     "out[place] = 0", f"{LEVELS}::test_what_a_window_shows_beside_a_kept_image_is_padding"),
    ("pixels are kept by a pass of the teacher", "build:_targets", "if not keeps(work)]", "if True]", GROWN),
    ("other pixels than the teacher saw are kept", "PixelKeeper._finish", "if self._compares:", "if False:",
     f"{KEEP}::test_other_pixels_than_the_teacher_saw_are_not_kept"),
    ("a loss is offered kept pixels", "Manifest.tap_names", "for t in self.taps", "for t in self.stored",
     GROWN),
    ("views that come later are kept without pixels", "plan:_kept", "return old.kept if old else ()",
     "return ()",
     f"{KEEP}::test_a_new_cache_may_keep_pixels_from_the_start_and_further_views_have_them"),
    ("damaged pixels are asked of the teacher", "_compute_again", "if keeps(work)], computed)",
     "if False], computed)",
     f"{KEEP}::test_damage_is_found_and_put_back_byte_for_byte_without_a_forward"),
    ("a copy stores pixels and answers in one pass", "compact:_groups",
     "name for name in names if name not in kept", "name for name in names",
     f"{KEEP}::test_a_compacted_copy_keeps_them_and_can_be_repaired"),
    # ---- ranks
    ("every rank decodes", "shared_arrays", "places.index(place) == dist.get_rank()", "True",
     f"{SHARED}::test_two_ranks_decode_once_and_read_what_the_pipeline_makes"),
]  # fmt: skip
