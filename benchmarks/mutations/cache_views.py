"""Views: numbers that caches and runs have recorded, crops that stay inside, rows that know their partner.

A slipped number shows the student other pixels than the teacher saw, or draws other crops than those that a
cache of last year holds.
"""

VIEW, SETS = "tests/cache/views/test_view.py", "tests/cache/views/test_sets.py"
DRAW = "tests/cache/views/test_recipe_draw.py"
RECIPE = "tests/cache/views/test_recipe.py::test_what_cannot_be_is_refused_naming_the_way_out"
CROP = "tests/cache/views/test_crop.py::test_height_comes_before_width_and_one_number_is_a_square"
FIXED = f"{SETS}::test_a_draw_is_fixed_for_good_because_caches_store_targets_of_it"
DRAWN = f"{DRAW}::test_a_draw_is_fixed_for_good_because_caches_store_targets_of_it"
REACH = f"{SETS}::test_draws_reach_all_scales_all_corners_and_both_sides"
WINDOW = f"{SETS}::test_a_window_is_aligned_and_its_cells_exist_at_every_tap"
GROWN = f"{SETS}::test_a_cache_grown_to_sixteen_crops_holds_the_crops_of_sixteen_from_the_start"
DIGESTS = f"{SETS}::test_sets_of_before_there_were_recipes_keep_their_digests_and_their_fields"
NEWER = f"{SETS}::test_a_set_of_views_of_a_newer_version_is_refused_by_name"
PARTNER = f"{VIEW}::test_a_partner_keeps_its_effects_and_is_not_mixed_itself"
BLOCK = (
    "tests/cache/views/test_block_views.py::test_a_blocks_columns_hand_out_its_rows_and_say_who_is_mixed_in"
)
SAYS = f"{VIEW}::test_a_view_says_what_follows_its_crop_whom_it_is_mixed_with_and_how_much_is_its_own"

MUTANTS = [
    # ---- what is drawn
    ("a sample's key hashes to another number", "key_hash", '"little"', '"big"', FIXED),
    ("all kinds of draw share their random numbers", "_philox", "purpose, 0]", "0, 0]", DRAWN),
    ("a crop is flipped one time in four", "draw_crop", "coin < 0.5", "coin < 0.25", REACH),
    ("crops never reach the bottom row", "draw_crop", "resize_h - crop[0]) + 1", "resize_h - crop[0])",
     REACH),
    ("a window starts between two cells", "window_view", "pick(u, room // stride + 1) * stride",
     "pick(u, room + 1)", WINDOW),
    ("a window reaches beyond the stored map", "window_view", "ceil_div(height, edge) * edge",
     "ceil_div(height, stride) * stride",
     f"{SETS}::test_a_window_ends_where_the_map_of_the_finest_tap_does"),
    ("evaluation shows the whole image", "EVAL_SHARE", "0.875", "1.0",
     f"{DRAW}::test_without_geometry_an_image_is_shown_as_in_evaluation"),
    ("a sample may be mixed with itself", "_partner", "partners[-1] if chosen == key else chosen", "chosen",
     f"{DRAW}::test_partners_are_the_others_of_the_shard_with_equal_chance"),
    ("shares of mixup do not follow their alpha", "_beta", "2.0**-54) / alpha", "2.0**-54)",
     f"{DRAW}::test_shares_of_mixup_have_the_mean_and_spread_of_the_beta_distribution"),
    ("colours are jittered in one fixed order", "_jitter", "sorted(placed)", "placed", DRAWN),
    # ---- rows and views
    ("the share of a cutmix image is its partner's", "Row.own_share", "1.0 - int(", "int(", SAYS),
    ("a partner is mixed with somebody in turn", "Row.mixed_with", "effects=unmixed(partner.effects), ", "",
     PARTNER),
    ("rows are numbered within their block", "BlockViews.row", "self.first + place", "place", BLOCK),
    ("a partner that is not where it was is left out in silence", "Cache.row",
     "if partner is None and partner_key(own.effects) is None:", "if partner is None:",
     "tests/cache/reader/test_partners.py::test_a_partner_column_that_disagrees_with_the_effects_is_refused"),
    ("without a crop the image before its resizing is shown", "View.geometry", "(0, 0, resize_h, resize_w)",
     "(0, 0, height, width)", f"{VIEW}::test_without_a_crop_the_whole_resized_image_is_shown"),
    # ---- sets
    ("a grown set of views draws its first crops again", "extend_views", "draw_first=have, ", "", GROWN),
    ("a set draws by its place in the cache", "ViewSet.view", "self.draw_first + number - self.first",
     "number", GROWN),
    ("the digest of views forgets their version", "ViewSet.digest", "dumps([*version, self.to_dict()]",
     "dumps([self.to_dict()]", DIGESTS),
    ("an unknown field of a set of views is left out", "ViewSet.from_dict", "if strange or", "if", NEWER),
    ("a recipe draws with more digits than its manifest holds", "_as_recorded",
     "recipe if _is_plain(recipe) else read_recipe(recipe.text)", "recipe",
     f"{SETS}::test_a_set_draws_what_its_manifest_gives_back_however_many_digits_a_recipe_had"),
    ("crops of another seed enter a cache", "_check_drawn_alike", '"seed", ', "",
     f"{SETS}::test_crops_of_another_size_or_seed_do_not_enter_a_cache"),
    # ---- texts
    ("a recipe of another task is taken", "parse_recipe", "if name not in rules.items", "if not name",
     RECIPE),
    ("height and width of a crop change places", "parse_crop", "sizes[0], sizes[-1]", "sizes[-1], sizes[0]",
     CROP),
]  # fmt: skip
