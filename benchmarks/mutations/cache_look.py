"""Looking at a cache: damage that is found, targets compared with the teacher that made them, pictures."""

VERIFY, PEEK = "tests/cache/look/test_verify.py", "tests/cache/look/test_peek.py"
TEACHER = "tests/cache/look/test_teacher.py"
DAMAGE = f"{VERIFY}::test_damage_of_an_object_is_found_and_its_shard_named"
BOUND = f"{VERIFY}::test_stored_targets_are_within_the_stated_bound_of_the_teacher"
OTHER_ROW = f"{VERIFY}::test_a_target_of_another_row_is_beyond_the_bound"
TORN = f"{VERIFY}::test_a_torn_record_is_a_problem_and_not_the_end_of_the_search"
LISTED = f"{TEACHER}::test_taps_can_be_listed_of_a_network_that_nobody_trained"
COLOURS = f"{PEEK}::test_cells_are_coloured_by_their_principal_components"

MUTANTS = [
    # ---- verify
    ("an object that is missing is no problem", "object_problem", "return f\"'{entry.name}' is missing\"",
     "return None", DAMAGE),
    ("a flipped byte is no problem", "object_problem", "digest == entry.digest", "digest", DAMAGE),
    ("the search for damage ends at a torn record", "look/verify:problems", "            continue\n",
     "            return\n", TORN),
    ("a torn record is no problem", "look/verify:problems", "            yield Problem(key, error.what)\n",
     "", TORN),
    ("damaged samples are not repaired", "damaged_shards", "if p.key is not None",
     "if p.key is not None and not p.key.of_samples", TORN),
    ("a folder without manifest is searched for damage", "damaged_shards", "return []\n", "pass\n",
     f"{VERIFY}::test_a_folder_without_manifest_has_nothing_to_repair"),
    ("stored targets are compared with those of another sample", "_compare",
     "cache.parts(target, index, view)", "cache.parts(target, 0, view)", BOUND),
    ("a deep check looks at the first view only", "_spread", "views[k % len(views)]", "views[0]",
     f"{OTHER_ROW}"),
    ("a deep check reports the smallest error", "_summary", "max(e[0] for e in errors)",
     "min(e[0] for e in errors)", OTHER_ROW),
    ("a deep check lets the teacher train", "deep_check", "teacher.eval()", "pass",
     f"{VERIFY}::test_a_teacher_in_training_mode_is_checked_in_evaluation_mode"),
    # ---- the teacher
    ("code that a cache names is run", "own_teacher", 'if any(":" in member', "if any(False",
     f"{TEACHER}::test_code_that_only_a_cache_names_is_not_run"),
    ("networks of libraries count as code of one's own", "own_teacher",
     "not member.strip().startswith(from_libraries)", "True",
     f"{TEACHER}::test_runs_and_networks_of_libraries_are_taken_from_a_cache"),
    ("a teacher of other weights is compared", "manifest_teacher",
     'if digest != manifest.identity["weights"]:', "if False:",
     f"{TEACHER}::test_other_weights_under_the_same_name_are_refused"),
    ("taps of a classifier are listed for a large input", "network_for_listing",
     "network.input_px or rules.listing_px", "rules.listing_px", LISTED),
    ("a stride that was asked for is not listed", "network_for_listing",
     "stride = output_stride or rules.default_stride", "stride = rules.default_stride", LISTED),
    # ---- peek
    ("cells have the colours of their first channels", "pca_rgb", "parts = flat @ axes.T",
     "parts = flat[:, :3]", COLOURS),
    ("a vector is shown from zero to its highest value", "vector_grey", "value_C - value_C.min()", "value_C",
     f"{PEEK}::test_a_vector_is_grey_from_its_lowest_to_its_highest_value"),
    ("a picture is written only where its folder is", "look/peek:peek",
     "    out.parent.mkdir(parents=True, exist_ok=True)\n", "",
     f"{PEEK}::test_one_picture_shows_image_truth_prediction_and_taps"),
]  # fmt: skip
