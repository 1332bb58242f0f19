"""What a cache claims and what exists: names on disk, torn records, which cache is meant."""

RECORDS, MANIFEST = "tests/cache/record/test_records.py", "tests/cache/record/test_manifest.py"
FIND, CLASSIFIER = "tests/cache/record/test_find.py", "tests/cache/record/test_classifier.py"
LAYOUT = "tests/cache/record/test_layout.py"
NAMES = f"{RECORDS}::test_names_of_records_are_fixed_for_good_because_caches_hold_them"
LISTED = f"{RECORDS}::test_the_folder_tells_every_shard_and_nothing_else"
EXISTS = f"{RECORDS}::test_what_exists_is_told_by_records_and_the_table_of_passes"
TORN = "tests/cache/look/test_verify.py::test_a_torn_record_is_a_problem_and_not_the_end_of_the_search"
COUNTED = f"{MANIFEST}::test_views_are_counted_over_all_sets"
DAMAGE = f"{CLASSIFIER}::test_a_flipped_bit_and_a_missing_file_are_named"

MUTANTS = [
    # ---- records
    ("half-written records count", "shards_of", "map(_NAME.fullmatch,", "map(_NAME.match,", LISTED),
    ("a million blocks are too many to list", "record/records:_NAME",
     "([0-9]{5}|[1-9][0-9]{5,})", "([0-9]{5})", LISTED),
    ("a torn record ends in a traceback", "read_sealed", "except ValueError as", "except KeyError as",
     TORN),
    ("records of views have two digits", "records.py:_tail", "{view:03d}", "{view:02d}", NAMES),
    ("records forget their pass", "records.py:_tail", "-{pass_id}", "", NAMES),
    ("the first view counts as samples", "ShardKey.of_samples", "self.view < 0", "self.view <= 0",
     f"{RECORDS}::test_a_shard_is_shown_by_its_block_and_view"),
    ("a target that another pass wrote is missing", "Coverage._passes_of", "if target in names",
     "if target in names[:1]", EXISTS),
    ("what is missing in one block is there if another has it", "Coverage.missing", "if block not in",
     "if 0 not in", EXISTS),
    # ---- the manifest
    ("a map leaves its last pixels uncovered", "TapEntry.spec", "ceil_div(width, self.stride)",
     "width // self.stride", f"{MANIFEST}::test_maps_cover_every_pixel_and_vectors_have_no_size"),
    ("the name of a pass depends on the order of its targets", "manifest.py:pass_id", "sorted(names)",
     "names",
     f"{MANIFEST}::test_the_name_of_a_pass_depends_on_what_is_stored_and_not_on_the_order"),
    ("views are counted of the last set alone", "Manifest.num_views", "v.first + v.count", "v.count",
     COUNTED),
    ("a view number belongs to the next set", "Manifest.view_set", "number < v.first + v.count",
     "number < v.first + v.count - 1", COUNTED),
    ("passes are not written into the manifest", "plain_manifest", "    return plain | {\n",
     '    return plain | {\n        "passes": {},\n',
     f"{MANIFEST}::test_a_manifest_comes_back_as_it_was_written"),
    # ---- the classifier
    ("a damaged classifier is read", "read_classifier", "if check else None", "if False else None", DAMAGE),
    ("a missing classifier is no problem", "classifier_problem",
     "return f\"'{CLASSIFIER_FILE}' is missing\"", "return None", DAMAGE),
    ("the classifier is kept in the precision it was trained in", "pack_classifier", '"cpu", torch.float32',
     '"cpu"', f"{CLASSIFIER}::test_the_weight_comes_back_as_float32"),
    # ---- which cache
    ("of several caches the first one is taken", "find_cache", "if len(caches) == 1:", "if caches:",
     f"{FIND}::test_of_several_caches_none_is_taken_unasked"),
    ("a folder without manifest is a cache", "list_begun", "if is_cache(path)", "if path.is_dir()",
     f"{FIND}::test_only_folders_with_a_manifest_and_targets_are_caches"),
    ("a tilde in the home is a folder's name", "home_dir", "user_path(os", "Path(os",
     f"{FIND}::test_home_is_the_variable_else_the_current_folder"),
    ("a row is counted by its first part alone", "bytes_per_row",
     "sum(part.num_bytes for part in make_codec(manifest.tap(name).codec).parts(spec).values())",
     "next(part.num_bytes for part in make_codec(manifest.tap(name).codec).parts(spec).values())",
     f"{LAYOUT}::test_a_row_takes_the_bytes_of_all_its_parts"),
]  # fmt: skip
