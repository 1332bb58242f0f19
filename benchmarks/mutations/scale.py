"""Ten million samples: what is made or read only where it is asked for must be what the whole of it says, and
sums must be those of the rows that they stand for."""

WINDOWS = "tests/trainer/stream/test_order_windows.py"
SAME = f"{WINDOWS}::test_every_epoch_has_the_order_that_a_sort_of_all_of_it_gives"
SUMS, GROW = "tests/cache/record/test_sums.py", "tests/cache/build/test_sums_grow.py"
TOTALS = f"{GROW}::test_totals_follow_a_cache_that_grows_by_samples_views_and_taps"
OLDER = f"{GROW}::test_a_cache_of_before_there_were_sums_gets_them_when_it_grows"
LOOP = f"{SUMS}::test_a_block_is_summed_up_as_a_loop_over_its_samples_does"
EMPTY = f"{SUMS}::test_samples_that_teach_nothing_are_left_out_and_only_their_blocks_are_read"
LARGEST = f"{SUMS}::test_the_largest_window_is_that_of_the_smallest_image_that_is_read"
TAKEN_OFF = f"{SUMS}::test_a_record_that_counts_no_longer_is_taken_off"
GENERATION = "tests/cache/record/test_generation.py"

MUTANTS = [
    # ---- the order, window by window
    (
        "words of samples begin with those of blocks",
        "EpochOrder._words_from",
        "self._order.num_blocks + place",
        "place",
        SAME,
    ),
    ("words begin at the count, not at the word", "EpochOrder._words_from", "[inside:]", "[:count]", SAME),
    (
        "blocks of a window stay in the order of their words",
        "EpochOrder._window",
        "np.sort(",
        "np.asarray(",
        SAME,
    ),
    (
        "small blocks take the words of blocks",
        "EpochOrder._words",
        "philox.random_raw(self._order.num_blocks, output=False)",
        "pass",
        SAME,
    ),
    (
        "the last block is as long as the others",
        "Order.valid_of",
        "samples[: np.searchsorted(samples, self.num_samples)]",
        "samples[:]",
        SAME,
    ),
    (
        "an array that was written to is not looked at again",
        "_order_of",
        "banned.copy() if banned.flags.writeable else banned",
        "banned",
        f"{WINDOWS}::test_an_array_that_somebody_writes_to_is_looked_at_again",
    ),
    (
        "every batch sorts the window again",
        "EpochOrder.__init__",
        "lru_cache(maxsize=_MEMO)(self._window)",
        "self._window",
        f"{WINDOWS}::test_a_batch_asks_only_for_the_windows_that_it_touches",
    ),
    # ---- what is said of blocks
    (
        "samples that cannot be used are the smallest",
        "sums.py:summed",
        "(samples.heights[usable], samples.widths[usable])",
        "(samples.heights, samples.widths)",
        LOOP,
    ),
    (
        "samples that cannot be used teach nothing twice",
        "sums.py:summed",
        "(usable & ~teaches)",
        "(~teaches)",
        LOOP,
    ),
    (
        "blocks with empty samples are passed over",
        "StoredSamples.without",
        "if blocks[block].empty]",
        "if blocks[block].empty > 1]",
        EMPTY,
    ),
    (
        "old caches train on samples that teach nothing",
        "StoredSamples.without",
        "if blocks[block].empty]",
        "if blocks[block].empty > 0]",
        f"{SUMS}::test_a_cache_of_before_there_were_sums_leaves_out_the_same",
    ),
    (
        "holes live where samples were left out",
        "StoredSamples.without",
        "[self.invalid, *empty]",
        "empty",
        EMPTY,
    ),
    (
        "lying sums are believed",
        "StoredSamples._check_truth",
        "entry.empty != UNKNOWN and",
        "False and",
        f"{SUMS}::test_sums_that_are_not_those_of_the_samples_are_refused",
    ),
    (
        "a window of an old cache is never too large",
        "check_windows_fit",
        ">= crop, axis=1)",
        ">= crop, axis=1) | (bounds < 0).all(axis=1)",
        LARGEST,
    ),
    (
        "images that are left out limit the window",
        "stored_views.py:_smallest",
        "- first] = smallest",
        "- first] = padded[:1]",
        LARGEST,
    ),
    (
        "columns that are read alone are not compared",
        "read_columns_object",
        "if check and",
        "if not check and",
        f"{SUMS}::test_columns_are_read_as_an_opened_block_gives_them",
    ),
    ("the wrong samples live", "Generation.living_at", 'side="right"', 'side="left"', GENERATION),
    # ---- what is said of targets
    (
        "totals begin anew with each build",
        "record/sums:totals",
        "(total.num_bytes, total.values)",
        "(0, 0)",
        TOTALS,
    ),
    (
        "what counts no longer stays in the totals",
        "sums.py:_added",
        "len(records) - len(added) == len(known)",
        "True",
        TAKEN_OFF,
    ),
    (
        "totals of half a cache are said",
        "record/sums:totals",
        "        return ()\n",
        "        pass\n",
        TAKEN_OFF,
    ),
    (
        "places without targets have values",
        "sums.py:_sizes",
        "views.geometry[views.valid]",
        "views.geometry",
        "tests/cache/record/test_sums.py::test_places_without_targets_count_for_no_size",
    ),
    (
        "blocks of old caches stay without sums",
        "settle",
        "with_sums(store, manifest, blocks)",
        "blocks",
        OLDER,
    ),
]
