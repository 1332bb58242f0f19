"""Building: what is asked for, how large shards are, what is packed, drawn, written and locked. Each change
would keep other targets, samples or views than the cache claims, or build for ever. Precision, evaluation
mode, batch size and digests: `build`."""

BUILD = "tests/cache/build/test_build.py"
CLASSES = "tests/cache/build/test_build_classification.py"
VIEWS = "tests/cache/build/test_build_views.py"
OPTIONS = "tests/cache/build/test_options.py"
SIZE = "tests/cache/build/test_size.py"
SHARDS = "tests/cache/build/test_shards.py"
MEMBERS = f"{OPTIONS}::test_a_tap_of_the_members_alone_is_one_of_each"
WINS = f"{OPTIONS}::test_a_tap_that_is_named_wins_over_what_a_loss_needs"
PREDICTED = f"{BUILD}::test_predicted_target_bytes_are_exact"
THERE = f"{SHARDS}::test_what_is_there_already_is_not_predicted"
FULL = f"{SHARDS}::test_a_shard_that_could_not_be_written_ends_the_build"
EMPTY = f"{SHARDS}::test_a_shard_without_a_valid_sample_is_finished_too"
LOCK = f"{SHARDS}::test_a_second_builder_is_told_who_is_at_work_and_may_begin_when_it_is_done"
CHANGED = f"{BUILD}::test_a_changed_sample_is_named_and_update_remakes_its_shard"
GONE = f"{BUILD}::test_a_sample_that_went_away_is_an_error_then_invalid"
KEPT = f"{BUILD}::test_samples_keep_their_places_when_the_manifest_was_lost"
FIXED = f"{BUILD}::test_what_a_cache_cannot_change_is_refused_not_ignored"
PARTNERS = (
    "tests/trainer/stream/test_class_alignment.py"
    "::test_partners_are_valid_samples_of_the_same_shard_and_all_kinds_occur"
)

MUTANTS = [
    # ---- what is asked for
    ("what a loss needs replaces the codec of a named tap", "BuildOptions.resolved",
     "named.setdefault(one.name, one)", "named[one.name] = one", WINS),
    ("a loss's reduction is left out", "BuildOptions.resolved", ", reduction=need.reduction", "", WINS),
    ("of several teachers the first one's tap is kept", "build/options.py:_of_members",
     "for tap in members]", "for tap in members[:1]]", MEMBERS),
    ("a tap that the teacher has itself is looked for among members", "build/options.py:_of_members",
     "request.tap in taps or not members", "not members", MEMBERS),
    ("a default tap is asked of a teacher that lacks it", "default_requests", "if request.tap in taps",
     "", f"{OPTIONS}::test_what_nobody_named_is_what_the_teacher_has_of_the_tasks_own"),
    ("the place of a tap is read as its codec", "parse_tap", 'match["module"], match["codec"]',
     'match["codec"], match["module"]', OPTIONS),
    # ---- the plan
    ("another format for a cache that has one is ignored", "_refuse_other_layout",
     '        ("--format", options.target_format, old.target_format),\n', "", FIXED),
    ("a stored tap gets another codec", "grown_manifest",
     "request.codec and entry.codec != have.codec or", "",
     f"{BUILD}::test_another_codec_for_a_stored_tap_is_refused"),
    ("taps that are added take the place of those that are there", "grown_manifest",
     "taps = {t.name: t for t in old.taps}", "taps = {}",
     f"{BUILD}::test_growing_by_a_tap_keeps_what_is_there_and_equals_building_both"),
    ("a cache may import the code that it names", "plan.py:make_plan", "own_teacher(old)",
     "old.teacher_origin", f"{BUILD}::test_a_cache_does_not_import_the_code_it_names"),
    # ---- sizes
    ("a shard's file may be larger than 256 MiB", "size.py:shard_samples",
     "min(by_file, by_memory,", "min(by_memory,", SIZE),
    ("--memory is ignored", "size.py:shard_samples", "min(by_file, by_memory,", "min(by_file,", SIZE),
    ("memory in flight is that of one shard", "SHARDS_IN_FLIGHT", "3", "1", SIZE),
    ("the smaller of two crops decides on the size of shards", "largest_input", "return max(", "return min(",
     SIZE),
    ("whole images do not count in the size of shards", "largest_input", "seen += list(sizes)", "pass", SIZE),
    ("one image that cannot be read ends the build before it is named", "size.py:header_size",
     "except BadSample:", "except OSError:", SIZE),
    ("bytes of a shard's index are not predicted", "predict.py:_shard_bytes",
     "manifest.shard_samples * INDEX_BYTES + CRC_BYTES", "CRC_BYTES", PREDICTED),
    ("targets that are there are predicted again", "missing_work",
     "Coverage(list_records(root), manifest.passes)", "Coverage(set(), manifest.passes)", THERE),
    ("a disk that is too small is filled", "_refuse_full_disk", "wanted > prediction.free_bytes", "False",
     f"{BUILD}::test_a_disk_that_is_too_small_is_refused_before_the_first_write"),
    # ---- samples
    ("a bad sample is skipped without --skip-bad", "pack.py:_entry", "if not skip_bad:", "if False:",
     f"{BUILD}::test_skip_bad_keeps_the_place_and_marks_it"),
    # ---- targets
    ("images of two sizes go through the teacher together", "targets.py:batches",
     "setdefault((row.geometry.crop_h, row.geometry.crop_w), [])", "setdefault((0, 0), [])",
     f"{BUILD}::test_full_views_keep_maps_of_both_sizes"),
    ("a write that failed is found by the next build", "ShardWriter.__exit__",
     "raise self._failure", "pass", FULL),
    ("shards are written on after one that failed", "ShardWriter._work", "if self._failure is None:",
     "if True:", FULL),
    # ---- one builder at a time
    ("two builders write one cache", "build_lock", "fcntl.LOCK_EX", "fcntl.LOCK_SH", LOCK),
    ("a second builder is not told who is at work", "build_lock", "file.write(str(os.getpid()))", "pass",
     LOCK),
]  # fmt: skip
