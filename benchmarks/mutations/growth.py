"""One more block: what is not looked at any more must be what a look at all of it says, and what a dead
builder left goes all the same."""

LITTER, SETTLE = "tests/cache/build/test_litter.py", "tests/cache/build/test_settle.py"
RECORDS = "tests/cache/record/test_records.py"
COVERED = f"{RECORDS}::test_what_is_covered_is_what_a_slow_loop_says"
NAMED = f"{RECORDS}::test_files_are_named_alike_one_by_one_and_all_at_once"
FOLDER = f"{SETTLE}::test_what_counts_is_what_stands_in_the_folder_after_every_kind_of_build"
GOES = f"{SETTLE}::test_a_record_that_goes_while_a_build_runs_is_not_said_to_count"
KILLED = f"{LITTER}::test_the_build_after_one_that_was_killed_removes_what_it_left"
ERROR = f"{LITTER}::test_a_build_that_ended_in_an_error_may_have_left_something"
HOLDS = f"{LITTER}::test_who_only_holds_the_lock_leaves_the_word_of_a_killed_builder"
COPIED = f"{LITTER}::test_a_cache_that_was_copied_without_its_lock_is_looked_through"
AT_ONCE = f"{LITTER}::test_a_builder_that_dies_at_once_leaves_the_word_of_the_one_before"
FULL = f"{LITTER}::test_a_full_disk_takes_the_word_of_a_builder_without_its_number"
REFUSED = f"{LITTER}::test_what_nobody_may_remove_is_looked_for_again"
WELL = f"{LITTER}::test_after_a_build_that_ended_well_nobody_looks_through_the_cache"
PIXELS = "tests/cache/build/test_same_pixels.py"
ASSIGN = "tests/cache/build/samples/test_assign.py"
TOTALS = "tests/cache/record/test_sums.py::test_a_record_that_counts_no_longer_is_taken_off"
GENERATION, HOSTILE = "tests/cache/record/test_generation.py", "tests/cache/reader/test_hostile.py"

MUTANTS = [
    # ---- what a builder left
    ("what a killed builder left stays", "build_lock", "os.fstat(file.fileno()).st_size > 0",
     "False", KILLED),
    ("a copied cache keeps what was left in it", "build_lock", "FILE_NAME not in before or ", "", COPIED),
    ("a build that failed says that it ended well", "build_lock", "            raise\n",
     "            _forget(file)\n            raise\n", ERROR),
    ("who only held the lock says that nothing is left", "build_lock", "if not held.litter:",
     "if True:", HOLDS),
    ("every build looks through the whole cache", "build_lock", "_forget(file)", "pass", WELL),
    ("the word of a dead builder is away for a moment", "lock.py:_note", "    descriptor = file.fileno()\n",
     "    descriptor = file.fileno()\n    os.ftruncate(descriptor, 0)\n", AT_ONCE),
    ("a full disk forgets that a builder was here", "lock.py:_note", "os.fstat(descriptor).st_size + 1",
     "os.fstat(descriptor).st_size", FULL),
    ("the word of a builder is not on disk when it begins", "lock.py:_note", "os.fsync(descriptor)", "pass",
     f"{LITTER}::test_the_word_of_a_builder_is_on_disk_before_it_begins"),
    ("a dead builder is called the one at work", "build/lock.py:_lock", '.split("\\n")[-1]',
     '.split("\\n")[0]', AT_ONCE),
    ("what could not be removed is forgotten", "Held.sweep",
     "any(store.exists(name) for name in store.sweep())", "bool(store.sweep()) and False", REFUSED),
    ("a build never sweeps", "build.py:_begin", "lock.sweep(store, always=options.repair)", "pass", KILLED),
    ("a repair leaves what lies about", "build.py:_begin", "always=options.repair", "always=False",
     f"{LITTER}::test_a_repair_looks_through_the_cache_in_any_case"),
    # ---- what is there
    ("what it grew from grows too", "Coverage.grown", "set(blocks) for", "blocks for", COVERED),
    ("of two passes the first is read", "Coverage.key", "max(holding)", "min(holding)", COVERED),
    ("a shard that nothing is read from counts", "Coverage.keys", "left -= self._blocks[view, made]",
     "pass", COVERED),
    ("blocks of another pass are not there", "Coverage.blocks", "set().union(*held)",
     "set().union(*held[:1])", COVERED),
    ("names of many records are others", "file_names", "{block:05d}", "{block:04d}", NAMED),
    ("a generation knows no samples of its own", "Generation.record_files", "self.block_numbers, **",
     "(), **", FOLDER),
    # ---- what counts next
    ("what is new in a block of before does not count", "settle.py:_records", "[*before, *new]",
     "[*new]", FOLDER),
    ("what a block held is said twice", "settle.py:_records", "counted[:same] +", "counted +", FOLDER),
    ("a record that went counts on", "settle.py:_records", "if beside.lost or (", "if (", GOES),
    ("records of a lost block count on", "settle.py:_records",
     "or (old and not there.issuperset(old.block_numbers))", "", FOLDER),
    ("a new record is passed over where all are wanted", "settle.py:_coverage",
     "old.coverage.grown(records[len(old.records) :]", "old.coverage.grown(records[len(old.records) + 1 :]",
     FOLDER),
    ("totals of what counts no longer stay", "sums.py:_added",
     "if len(records) - len(added) == len(known) else None", "", TOTALS),
    ("a removed block is taken for one that is there", "assign.py:assign", "beyond -= remove_blocks(",
     "remove_blocks(", ASSIGN),
    ("pixels of before are those of another view", "EarlierPixels._recorded", "self._files[first:end]",
     "self._files[end:]", PIXELS),
    ("two records of one shard count", "generation.py:_check", "< len(body.records)", "< 0", GENERATION),
    ("a record may be of a block that is lost", "generation.py:_check", "if strange or any(",
     "if strange and any(", GENERATION),
    ("claims are measured by one record", "_Room.records", "islice(entries, most)",
     "islice(entries, 1)", HOSTILE),
]  # fmt: skip
