"""Tiny images packed and built many at once: each change would store other bytes than one at a time does,
lose a row, blame another sample, or make the teacher wait again."""

TARS = "tests/cache/stores/test_sample_tars.py"
SAME_TAR = f"{TARS}::test_a_tar_is_byte_for_byte_what_tarfile_writes_of_the_same_members"
NO_HEADER = f"{TARS}::test_what_no_header_can_say_is_refused_and_never_cut"
WRITES = "tests/cache/stores/test_local.py::test_tiny_buffers_share_a_write_and_large_ones_are_not_copied"
PNG = "tests/cache/sources/test_arrays.py::test_an_image_is_byte_for_byte_the_png_that_pillow_saves"
PACK, FINISH = "tests/cache/build/samples/test_pack.py", "tests/cache/build/test_finish.py"
RUNS = f"{PACK}::test_runs_hold_every_sample_once_in_order"
TOGETHER = "tests/cache/build/test_together.py"
SAME = f"{TOGETHER}::test_a_cache_is_byte_for_byte_that_of_one_batch_at_a_time"
LARGE = f"{TOGETHER}::test_large_crops_and_crops_of_large_images_do_not_gather"

MUTANTS = [
    # ---- tars
    ("a header's checksum leaves the size out", "tar_pack.py:_header", " + sum(size)", "", SAME_TAR),
    ("a header's checksum leaves the name out", "tar_pack.py:_header", " + sum(text)", "", SAME_TAR),
    ("a header's checksum is taken with its own field empty", "tar_pack.py:_template", ' + 8 * ord(" ")', "",
     SAME_TAR),
    ("a long name makes a header of another length", "tar_pack.py:_header",
     "len(text) > tarfile.LENGTH_NAME or ", "", f"{SAME_TAR} {NO_HEADER}"),
    ("a member of eight gigabytes shifts its header", "tar_pack.py:_header", " or num_bytes > _MOST_BYTES",
     "", NO_HEADER),
    # ---- writing
    ("the last tiny buffers are never written", "local.py:_gathered", "    if small:\n        yield",
     "    if False:\n        yield", WRITES),
    ("a large buffer overtakes the small ones before it", "local.py:_gathered",
     "if small and num_bytes + len(buffer) > GATHER_BYTES:",
     "if small and len(buffer) <= GATHER_BYTES < num_bytes + len(buffer):", WRITES),
    ("buffers are joined without a bound", "local.py:_gathered", "num_bytes += len(buffer)", "pass", WRITES),
    # ---- PNG
    ("a grey image says it is coloured", "_COLOUR_TYPES", '"L": 0', '"L": 2', PNG),
    ("an image of many chunks is written as one", "_ONE_CHUNK_BYTES", "60_000", "60_000_000", PNG),
    ("a chunk's checksum leaves out its name", "arrays.py:_chunk", "crc32(body)", "crc32(content)", PNG),
    ("the rows of a PNG are compressed at another level", "arrays.py:encode_png", "False, PNG_LEVEL, -1",
     "False, 9, -1", PNG),
    # ---- runs of samples
    ("the samples of a last, shorter run are left out", "runs_of", "range(0, num_samples, size)",
     "range(0, num_samples - size + 1, size)", RUNS),
    ("a block of few images is one run", "runs_of", "num_samples // (RUNS * WORKERS)", "num_samples", RUNS),
    ("tiny images are handed over one by one", "runs_of", "min(MOST_RUN, max(", "min(1, max(",
     f"{PACK}::test_tiny_images_are_handed_over_many_at_once"),
    ("a bad sample in a run is skipped unasked", "pack.py:_entries", "skip_bad=skip_bad", "skip_bad=True",
     f"{PACK}::test_a_bad_sample_inside_a_run_is_the_only_one_that_is_bad"),
    # ---- turns
    ("batches of a turn get the pixels of its first", "targets.py:_in_order", "first += len(batch.rows)",
     "first += 0", SAME),
    ("batches are decoded one by one again", "targets.py:TargetBuilder._upcoming",
     "turns(batches(shard, self.batch_size), image_px)",
     "([batch] for batch in batches(shard, self.batch_size))", SAME),
    ("crops of two sizes share a turn", "together.py:_fit", "len(sizes) <= 1 and ", "",
     f"{TOGETHER}::test_a_turn_has_one_size_of_input_and_one_without_rows_stands_alone"),
    ("a turn of large images is as long as one of tiny ones", "together.py:_fit",
     "max(image_px, *(", "max(1, *(", LARGE),
    ("a turn of large crops is as long as one of tiny ones", "together.py:_fit",
     "height * width for", "1 for", LARGE),
    ("a turn has more rows than the pipeline takes", "together.py:_fit", "min(MOST_ROWS, ", "min(1 << 20, ",
     f"{TOGETHER}::test_tiny_batches_share_a_turn_up_to_its_rows"),
    # ---- answers
    ("answers of joined batches change places", "finish.py:joined",
     "[batch.values[name] for batch in batches]", "[batch.values[name] for batch in batches[::-1]]", FINISH),
    ("pixels of joined batches change places", "finish.py:joined", "images_BHWC=torch.cat(images)",
     "images_BHWC=torch.cat(images[::-1])", FINISH),
    ("one bad answer blames all that waited", "Finisher._encode", "self._encoded(answered)", "pass", FINISH),
    ("a shard is complete while its last rows wait", "Finisher.__call__", "answered.last or full", "full",
     FINISH),
    ("answers wait however large they are", "Finisher.__call__", "answered.last or full", "answered.last",
     FINISH),
    ("rows of two shapes are joined", "Finisher.__call__",
     "self._waiting[0].row_shapes != answered.row_shapes", "False", FINISH),
]  # fmt: skip
