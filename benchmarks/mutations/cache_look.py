"""Looking at a cache: damage that is found, targets compared with the teacher that made them, pictures."""

VERIFY, PEEK = "tests/cache/look/test_verify.py", "tests/cache/look/test_peek.py"
TEACHER = "tests/cache/look/test_teacher.py"
DAMAGE = f"{VERIFY}::test_damage_of_an_object_is_found_and_its_shard_named"
ROWS = "tests/cache/look/test_verify_rows.py"
BOUND = f"{ROWS}::test_stored_targets_are_within_the_stated_bound_of_the_teacher"
WRONG = f"{ROWS}::test_one_wrong_number_is_beyond_the_bound_and_its_row_and_tap_are_named"
SPREAD = "tests/cache/reader/test_cache.py::test_a_sample_of_rows_is_spread_over_samples_and_views"
TORN = f"{VERIFY}::test_a_torn_record_is_a_problem_and_not_the_end_of_the_search"
LISTED = f"{TEACHER}::test_taps_can_be_listed_of_a_network_that_nobody_trained"
COLOURS = f"{PEEK}::test_cells_are_coloured_by_their_principal_components"

MUTANTS = [
    # ---- verify
    ("an object that is missing is no problem", "object_problem", "return error.what", "return None", DAMAGE),
    ("a flipped byte is no problem", "object_problem", "_differs(entry, digest_bytes(content.data))", "None",
     DAMAGE),
    ("the search for damage ends at a torn record", "look/verify.py:_of_shards", "            continue\n",
     "            return\n", TORN),
    ("a torn record is no problem", "look/verify.py:_of_shards",
     '            yield _problem(key, "", error)\n            continue\n', "            continue\n", TORN),
    ("damaged samples are not repaired", "damaged_shards", "if p.key}", "if p.key and not p.key.of_samples}",
     TORN),
    ("where nothing is built yet repair looks for damage", "build/repair.py:repair",
     "    if generation is None:\n        return Repaired()\n", "    assert generation is not None\n",
     "tests/cache/build/test_repair.py"
     "::test_all_generations_damaged_are_worked_out_again_from_the_records"),
    ("stored targets are compared with those of another sample", "look/verify.py:_compare",
     "cache.parts(target, index, view)", "cache.parts(target, 0, view)", BOUND),
    ("a deep check looks at the first view only", "Cache.stored_rows", "numbers[k % len(numbers)]",
     "numbers[0]", SPREAD),
    ("a deep check reports the smallest error", "_summary", "max(e.max_abs for e in errors)",
     "min(e.max_abs for e in errors)", WRONG),
    # ---- the teacher
    ("a teacher of other weights is compared", "manifest_teacher",
     'if digest != manifest.identity["weights"]:', "if False:",
     f"{TEACHER}::test_other_weights_under_the_same_name_are_refused"),
    ("networks of libraries count as code of one's own", "own_teacher", "not is_library(m)", "True",
     f"{TEACHER}::test_runs_and_networks_of_libraries_are_taken_from_a_cache"),
    ("taps of a classifier are listed for a large input", "network_for_listing",
     "network.input_px or rules.listing_px", "rules.listing_px", LISTED),
    ("a stride that was asked for is not listed", "network_for_listing",
     "stride = output_stride or rules.default_stride", "stride = rules.default_stride", LISTED),
    # ---- peek
    ("cells have the colours of their first channels", "pca_rgb", "parts = flat @ axes.T",
     "parts = flat[:, :3]", COLOURS),
    ("a vector is shown from zero to its highest value", "vector_grey", "value_C - value_C.min()", "value_C",
     f"{PEEK}::test_a_vector_is_grey_from_its_lowest_to_its_highest_value"),
    ("a picture is written only where its folder is", "system.py:write_whole",
     "path.parent.mkdir(parents=True, exist_ok=True)", "pass",
     f"{PEEK}::test_one_picture_shows_image_truth_prediction_and_taps"),
]  # fmt: skip
