"""Batches of rows, and vectors that share a chunk: the rows that were asked for, and none that is not
there."""

BATCH, SHARDS = "tests/cache/reader/test_row_batch.py", "tests/cache/stores/test_zarr_shards.py"
FORMATS, CHUNKS = "tests/cache/stores/test_target_formats.py", "tests/cache/build/test_vector_chunks.py"
ONE_BY_ONE = f"{BATCH}::test_a_batch_is_its_rows_one_by_one"
GATHERED = f"{SHARDS}::test_rows_that_are_gathered_are_the_rows_one_by_one"
THERE = f"{SHARDS}::test_a_row_of_a_chunk_with_others_is_there_only_where_the_shard_says_so"
DIVIDES = f"{SHARDS}::test_a_chunk_of_vectors_divides_its_shard_and_is_neither_small_nor_large"
LEFT_OUT = f"{CHUNKS}::test_a_pass_that_left_a_row_out_does_not_give_its_fill_value"
BEFORE = f"{CHUNKS}::test_a_cache_of_before_is_read_grows_and_repairs_in_its_own_layout"
PLAIN = f"{BATCH}::test_a_row_without_targets_is_refused_where_no_row_has_effects"
DISAGREE = f"{BATCH}::test_partners_that_disagree_are_refused_alike"
ALIGNED = (
    "tests/trainer/stream/test_alignment.py"
    "::test_maps_that_are_gathered_by_the_shard_lie_at_the_rows_that_they_answer"
)

MUTANTS = [
    # ---- rows of a batch
    ("maps of a shard lie at their neighbours' rows", "BatchReader.gather", "gather(group.places, part",
     "gather(np.roll(group.places, 1), part", ALIGNED),
    ("rows of a batch come in the order of their blocks", "row_batch.py:grouped",
     "order[first:end] for", "np.arange(first, end) for", ONE_BY_ONE),
    ("a batch of two views is read as one of its first", "BatchReader._columns", "grouped(blocks, views)",
     "grouped(blocks)", ONE_BY_ONE),
    ("rows of one view lie on those of another", "Resident.index",
     "index: np.ndarray = views * self._num_samples + samples", "index: np.ndarray = samples", ONE_BY_ONE),
    ("a block is remembered under all views", "Resident.index", "self._here[view, block] = True",
     "self._here[:, block] = True", ONE_BY_ONE),
    ("rows without targets are in a batch", "BatchReader._unmixed", "np.flatnonzero(~columns[_VALID])",
     "np.flatnonzero(columns[_VALID] & False)", PLAIN),
    ("a batch trusts the partner column", "BatchReader.rows", "for slot in slots.tolist():",
     "for slot in ():", DISAGREE),
    ("a partner that only the effects name is forgotten", "BatchReader.rows",
     "(partners != NOBODY) | np.array(named or [False], dtype=bool)", "partners != NOBODY", DISAGREE),
    ("a partner's own mixing is shown in a batch", "row_batch.py:spread", "= unmixed(of_one)", "= of_one",
     f"{BATCH}::test_a_partner_has_targets_too_and_where_nobody_is_nothing_is_written"),
    ("targets of a sample are written where nobody is", "row_batch.py:groups_of",
     "if rows.samples[first] != NOBODY:", "if True:",
     f"{BATCH}::test_a_partner_has_targets_too_and_where_nobody_is_nothing_is_written"),
    ("the last batch's places are those of every batch", "BatchReader._groups",
     "if last is None or last[0] is not rows:", "if last is None:",
     f"{BATCH}::test_two_batches_in_turn_are_two"),
    ("a hole is a sample of a batch", "StoredSamples.places",
     "~inside | (rows >= self._block_lengths[np.where(inside, blocks, -1)])", "~inside",
     f"{BATCH}::test_an_index_that_nobody_has_is_refused_alike"),
    ("a vector that its pass left out is taken from memory", "BatchReader._take_vectors",
     "or not vectors.arrays[_VALID][index].all()", "", LEFT_OUT),
    # ---- rows of a shard
    ("rows that are far apart are read as neighbours", "EvenRows.__init__", "(step, *inner.tolist())",
     "(part.num_bytes, *inner.tolist())", f"{FORMATS}::TestWebdataset"),
    ("a row's number is its place although some are missing", "EvenRows.__init__",
     "bool((self.ranks[here] == np.flatnonzero(here)).all())", "True", GATHERED),
    ("gathered rows are not looked for", "ShardRows.gather",
     "if not self._whole and not (here := self.present[places]).all():", "if False:", f"{THERE} {GATHERED}"),
    ("members that are not in a tar are gathered", "TarBlock.gather", "if not here.all():", "if False:",
     f"{FORMATS}::TestWebdataset::test_a_vector_without_target_is_an_error_where_the_shard_says_which_rows_"
     "it_has"),
    # ---- vectors in chunks
    ("every row of a chunk is there", "ShardRows.__init__", "self.present[: len(valid)] &= valid", "pass",
     f"{THERE} {LEFT_OUT}"),
    ("rows beyond the last one of a short block are there", "ShardRows.__init__",
     "self.present[len(valid) :] = False", "pass", THERE),
    ("what no row was written to reads as zero", "zarr_shards.py:fill_of",
     'return 0 if np.dtype(part.dtype).kind in "iub" else float("nan")', "return 0",
     f"{FORMATS}::TestZarrWithVectorsInChunks::test_a_vector_without_target_is_nothing_for_others_too"),
    ("all rows of a compressed chunk are its first", "ShardRows.gather", "[inside[asked]]",
     "[inside[asked] * 0]", GATHERED),
    ("a chunk need not divide its shard", "_rows_of_chunk", "if shard_samples % n == 0", "", DIVIDES),
    ("a chunk of vectors may be as large as its shard", "_rows_of_chunk",
     "if n * row_bytes <= MOST_CHUNK_BYTES", "", DIVIDES),
    ("maps share chunks too", "zarr_shards.py:chunk_rows", "size_key != VECTOR or ", "", DIVIDES),
    ("a cache of before is read in the layout of today", "record/layout.py:target_layout",
     "vector_bytes=manifest.vector_bytes", "vector_bytes=4096", BEFORE),
    ("an older manifest is written with other bytes", "plain_manifest", "if not manifest.vector_bytes:",
     "if False:", BEFORE),
    ("what was begun before goes on in another layout", "build/plan.py:_fresh",
     "planned.vector_bytes if planned else VECTOR_BYTES", "VECTOR_BYTES",
     f"{CHUNKS}::test_a_build_that_was_begun_before_goes_on_in_its_layout"),
    ("a copy that was begun before goes on in another layout", "compact.py:_begin",
     " or _lays_out_otherwise(store.root, manifest)", "",
     f"{CHUNKS}::test_a_copy_that_was_begun_in_the_other_layout_begins_again"),
    ("vectors in a cache of today have a chunk each", "compact.py:_manifest", "vector_bytes=VECTOR_BYTES",
     "vector_bytes=0", f"{CHUNKS}::test_a_copy_has_the_layout_of_today_whatever_was_copied"),
    ("rows that fill up a chunk are not predicted", "predict.py:_tap_bytes",
     "len({place // rows for place in there}) * rows * part.num_bytes", "len(there) * part.num_bytes",
     f"{CHUNKS}::test_the_bytes_of_chunks_are_predicted"),
]  # fmt: skip
