"""Building: what is asked for, how large shards are, what is packed, drawn, written and locked. Each change
would keep other targets, samples or views than the cache claims, or build for ever. Precision, evaluation
mode, batch size and digests: `build`."""

BUILD = "tests/cache/build/test_build.py"
ASSIGN, SURVEY = "tests/cache/build/samples/test_assign.py", "tests/cache/build/samples/test_survey.py"
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
NEW_BLOCKS = f"{ASSIGN}::test_new_samples_go_to_new_blocks_in_the_order_of_the_source"
LISTED = f"{SURVEY}::test_a_plain_build_lists_what_changed_or_is_gone_and_leaves_its_rows_as_they_are"
PLANNED = (
    "tests/cache/build/test_first_build.py::test_a_dead_first_build_that_is_named_takes_what_is_asked_for_now"
)
FIXED = f"{BUILD}::test_what_a_cache_cannot_change_is_refused_not_ignored"
PARTNERS = (
    "tests/trainer/stream/test_class_alignment.py"
    "::test_partners_are_valid_samples_of_the_same_block_and_a_lone_one_has_one_of_the_block_before"
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
    ("a grown cache draws by the data's recipe instead of its own", "plan.py:_drawn",
     "kept[0] if kept and options.augment is None else parse_recipe(text, kind.recipes)",
     "parse_recipe(options.augment or source.augment, kind.recipes)",
     f"{VIEWS}::test_a_cache_that_grows_draws_on_with_its_own_recipe"),
    ("another crop for a cache that has one is ignored", "plan.py:_same_identity",
     "if old.identity.get(key) != value:", 'if key != "crop" and old.identity.get(key) != value:',
     f"{BUILD}::test_other_crops_get_a_cache_beside_the_first_and_never_into_it"),
    ("another format for a cache that has one is ignored", "_refuse_other_layout",
     '        ("--format", options.target_format, old.target_format),\n', "", FIXED),
    ("a stored tap gets another codec", "grown_manifest",
     "request.codec and entry.codec != have.codec or", "",
     f"{BUILD}::test_another_codec_for_a_stored_tap_is_refused"),
    ("taps that are added take the place of those that are there", "grown_manifest",
     "taps = {t.name: t for t in old.taps}", "taps = {}",
     f"{BUILD}::test_growing_by_a_tap_keeps_what_is_there_and_equals_building_both"),
    ("a cache may import the code that it names", "plan.py:make_plan", "own_teacher(old, own_word(options))",
     "old.teacher_origin", f"{BUILD}::test_a_cache_does_not_import_the_code_it_names"),
    ("shards of a cache whose first build died are cut anew", "plan.py:_fresh",
     "(planned.shard_samples if planned else 0)", "0", PLANNED),
    ("a cache whose manifest was lost is begun anew", "Standing.counted",
     "self.claimed if self.lost and self.claimed else self.generation.manifest", "self.claimed",
     "tests/cache/build/test_repair.py::test_a_lost_manifest_is_said_again_by_a_generation"),
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
    ("bytes of a shard's index are not predicted", "predict.py:_tap_bytes",
     "manifest.shard_samples // rows * INDEX_BYTES + CRC_BYTES", "CRC_BYTES", PREDICTED),
    ("samples that are packed are predicted again", "predict.py:predict",
     "[inputs.index_of[key] for keys in to_pack.values() for key in keys]", "list(inputs.index_of.values())",
     THERE),
    ("targets that are there are predicted again", "pending.py:recorded",
     "return counts.grown(", "return Coverage((), {}).grown(", THERE),
    ("a disk that is too small is filled", "refuse_full_disk", "wanted > free", "False",
     f"{BUILD}::test_a_disk_that_is_too_small_is_refused_before_the_first_write"),
    # ---- samples
    ("new samples come first and move the others", "assign.py:_dealt", "block = counted", "block = 0",
     NEW_BLOCKS),
    ("new samples come in another order than in the data", "assign.py:assign", "_dealt(list(left),",
     "_dealt(list(left)[::-1],", NEW_BLOCKS),
    ("a sample that went away is passed over", "survey.py:_changes", 'yield Change(first + row, key, "gone")',
     "pass", f"{SURVEY}::test_a_deletion_settles"),
    ("a file that was touched counts as changed", "survey.py:_changes",
     "if (image, label) == samples.content_digest(row):", "if False:",
     f"{SURVEY}::test_without_the_notes_of_times_every_file_is_read_and_none_has_changed"),
    ("a changed file counts as the old one", "survey.py:_changes",
     "if (image, label) == samples.content_digest(row):", "if True:", LISTED),
    ("a bad sample is left out and the others move", "pack.py:pack_blocks",
     "        objects = packed_objects(",
     "        entries = [e for e in entries if e.valid]\n        objects = packed_objects(",
     f"{BUILD}::test_skip_bad_keeps_the_place_and_marks_it"),
    ("a bad sample is skipped without --skip-bad", "pack.py:_entry", "if not skip_bad:", "if False:",
     f"{BUILD}::test_skip_bad_keeps_the_place_and_marks_it"),
    ("files of a shard that is made otherwise stay behind", "assign.py:remove_shard", "for entry in objects:",
     "for entry in ():", f"{ASSIGN}::test_a_block_of_which_nothing_is_wanted_any_more_goes"),
    # ---- targets
    ("an invalid sample is mixed into what the teacher sees", "draw.py:_places",
     "if good and first + place not in", "if first + place not in", PARTNERS),
    ("every shard has the views of the first number", "_Drawing.row",
     "view(samples.keys[place], self._number,", "view(samples.keys[place], self._drawn.first,",
     f"{BUILD}::test_growing_by_views_equals_building_them_at_once"),
    ("images of two sizes go through the teacher together", "targets.py:batches",
     "setdefault((row.geometry.crop_h, row.geometry.crop_w), [])", "setdefault((0, 0), [])",
     f"{BUILD}::test_full_views_keep_maps_of_both_sizes"),
    ("a write that failed is found by the next build", "Behind.__exit__",
     "raise self._failure", "pass", FULL),
    ("shards are written on after one that failed", "Behind._work", "if self._failure is None:",
     "if True:", FULL),
    ("a shard of bad samples is never finished", "targets.py:_in_order",
     "yield turn[0], None", "pass",
     EMPTY),
    # ---- one builder at a time
    ("two builders write one cache", "build/lock.py:_lock", "fcntl.LOCK_EX", "fcntl.LOCK_SH", LOCK),
    ("a second builder is not told who is at work", "build_lock", "_note(file, str(os.getpid()))",
     "pass", LOCK),
]  # fmt: skip
