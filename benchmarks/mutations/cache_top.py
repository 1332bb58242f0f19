"""What every part shares: cells, sizes and members; errors in three parts; digests that must agree."""

SPEC, ERRORS = "tests/cache/test_spec.py", "tests/cache/test_errors.py"
PRINT = "tests/cache/test_fingerprint.py"
MEMBERS = f"{SPEC}::test_the_mean_over_an_ensemble_answers_what_every_member_has"
KEPT = f"{SPEC}::test_what_is_kept_of_a_tap_is_not_taken_for_a_member"
SHOWN = f"{ERRORS}::test_an_error_shows_its_three_parts_on_three_lines"
NEAREST = f"{ERRORS}::test_a_misspelt_name_is_answered_with_the_nearest_and_all_legal_ones"
LONG = f"{PRINT}::test_a_long_file_is_covered_to_its_last_byte"

MUTANTS = [
    # ---- spec
    ("the last pixels have no cell", "ceil_div", "-(-value // step)", "value // step",
     f"{SPEC}::test_cells_cover_every_pixel"),
    ("maps are kept under their channels", "TensorSpec.size_key", "self.shape[:-1]", "self.shape",
     f"{SPEC}::test_maps_are_kept_under_their_size_and_vectors_under_their_name"),
    ("bytes of a large part overflow", "PartSpec.num_bytes", "dtype=np.int64", "dtype=np.int32",
     f"{SPEC}::test_bytes_of_a_part_are_counted_without_overflow"),
    ("a reduction is kept under its tap's name", "Need.name", "self.tap if not self.reduction else",
     "self.tap if True else", f"{SPEC}::test_a_need_is_kept_under_its_tap_and_what_it_keeps_of_it"),
    ("a mean over some members is a mean over all", "members_of", "len(targets) == len(members) > 1",
     "len(targets) > 1 or len(members) > 1", MEMBERS),
    ("one teacher is an ensemble", "members_of", "== len(members) > 1", "== len(members)", MEMBERS),
    ("a mean is taken although it is kept itself", "members_of", "if need in names:", "if False:", MEMBERS),
    ("a tap is taken for a member of an ensemble", "members_of", "if first not in taps)", "if first)", KEPT),
    # ---- errors
    ("errors do not say what to do", "KdError.__str__", "  fix:   {visible_lines(self.fix)}", "", SHOWN),
    ("errors lose their parts between processes", "KdError.__reduce__",
     "return _rebuild, (type(self), self.what, self.where, self.fix)", "return super().__reduce__()",
     f"{ERRORS}::test_an_error_comes_whole_out_of_another_process"),
    ("a missing folder is no FileNotFoundError", "Missing", "(KdError, FileNotFoundError)", "(KdError)",
     f"{ERRORS}::test_an_error_is_also_the_built_in_that_a_caller_would_catch"),
    ("the nearest name is not offered", "cache/errors.py:unknown", "if close else", "if not close else",
     NEAREST),
    ("names are guessed however far they are", "cache/errors.py:nearest", "cutoff=0.5", "cutoff=0.0",
     f"{ERRORS}::test_no_name_is_guessed_where_none_is_close"),
    # ---- fingerprints
    ("equal values have digests by their order", "canonical", "sort_keys=True", "sort_keys=False",
     f"{PRINT}::test_equal_values_have_one_byte_form"),
    ("a digest of values has half its digits", "digest_of", "num_hex // 2", "num_hex // 4",
     f"{PRINT}::test_a_digest_of_values_is_blake2b_of_that_form"),
    ("a digest of buffers is that of the last one", "digest_bytes", "        state.update(buffer)\n",
     "        state = RunningDigest()\n        state.update(buffer)\n",
     f"{PRINT}::test_a_digest_of_buffers_is_that_of_their_joined_bytes"),
    ("a long file is digested by its beginning", "RunningDigest.update", "update(piece)",
     "update(piece[: 1 << 16])", LONG),
]  # fmt: skip
