"""Codecs: values within the stated bound, what does not fit refused, and no code run that a cache names."""

CONTRACT = "tests/cache/codecs/test_contract.py"
INT8, RAW = "tests/cache/codecs/test_int8.py", "tests/cache/codecs/test_raw.py"
TABLE, REDUCTION = "tests/cache/codecs/test_table.py", "tests/cache/codecs/test_reduction.py"
LEVELS = f"{INT8}::test_levels_are_the_nearest_ones_worked_out_by_hand"
BOUND = f"{CONTRACT}::TestInt8::test_the_decoded_value_is_within_the_stated_bound"

MUTANTS = [
    ("int8 uses half of its levels", "codecs/int8:LEVELS", "255", "127", LEVELS),
    ("int8 rounds levels down", "Int8.on_device", ".round_()", ".floor_()", LEVELS),
    ("int8 has one range for all channels", "codecs/int8.py:_levels",
     "value_BCHW.amin((2, 3)), value_BCHW.amax((2, 3))",
     "value_BCHW.amin((1, 2, 3))[:, None].expand(value_BCHW.shape[:2]), "
     "value_BCHW.amax((1, 2, 3))[:, None].expand(value_BCHW.shape[:2])",
     f"{INT8}::test_a_constant_channel_is_exact_beside_one_that_varies"),
    ("scale and minimum of int8 change places", "Int8.on_device", "(scale_BC, minimum_BC), 1",
     "(minimum_BC, scale_BC), 1", BOUND),
    ("the minimum of a channel is not added again", "Int8.decode", ".add_(scale_B2C[:, 1, None, None, :])",
     "",
     f"{INT8}::test_the_minimum_of_a_channel_is_exact"),
    ("int8 states half of its error", "Int8.bound", "scale_BC / 2", "scale_BC / 4", BOUND),
    ("numbers beyond fp16 become infinite", "Raw._refuse",
     'self.dtype == "float16" and largest > FP16_LARGEST', "False",
     f"{RAW}::test_a_number_beyond_fp16_is_refused_with_the_codecs_that_can_hold_it"),
    ("raw maps are stored channels first", "Raw.on_device", "channels_last(value).to(", "value.to(",
     f"{RAW}::test_fp16_is_stored_channels_last"),
    ("infinities and NaN are stored", "refuse_non_finite", "if not rows:", "if True:",
     f"{CONTRACT}::TestFp16::test_a_value_that_is_not_finite_is_refused_and_its_row_named"),
    ("fp32 is stored as fp16", "codecs/table:_fp32", '"float32"', '"float16"',
     f"{TABLE}::test_every_codec_of_the_table_can_be_made"),
    ("logits of nineteen classes are quantised", "FEW_CLASSES", "32", "18",
     f"{TABLE}::test_the_default_codec_is_the_one_that_was_measured"),
    ("a cache imports the codec it names", "_foreign", "if not may_import:", "if False:",
     f"{TABLE}::test_a_name_from_a_cache_imports_nothing"),
    ("a codec that calls itself otherwise is taken", "_foreign", "if codec.name != name:", "if False:",
     f"{TABLE}::test_a_codec_that_cannot_be_found_again_is_refused"),
    ("a cache imports the reduction it names", "load_reduction",
     "    if not may_import:\n        require_trust(", "    if False:\n        require_trust(",
     f"{REDUCTION}::test_a_name_from_a_cache_imports_nothing"),
    ("a reduced vector is taken for a map", "reduced_spec", "if value.ndim == 2:", "if value.ndim == 1:",
     f"{REDUCTION}::test_the_spec_of_what_is_kept_follows_from_the_function"),
    ("a reduction may change the size of a map", "reduced_spec",
     "if tuple(value.shape[2:]) != tuple(spec.shape[:-1]):", "if False:",
     f"{REDUCTION}::test_a_reduction_that_changes_the_size_of_a_map_is_refused"),
]  # fmt: skip
