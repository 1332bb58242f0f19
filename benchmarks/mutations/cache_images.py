"""The image pipeline: pixels where their labels are, effects by their formulas, errors that name a sample."""

PIXELS, PIPELINE = "tests/cache/images/test_pixels.py", "tests/cache/images/test_pipeline.py"
EFFECTS = "tests/cache/images/test_effects.py"
SLICED = f"{PIXELS}::test_crop_flip_and_padding_are_those_of_plain_slicing"
ALIGNED = f"{PIXELS}::test_image_and_label_stay_aligned_at_any_scale_flip_and_crop"
EXECUTED = f"{PIXELS}::test_effects_and_partners_are_executed_on_the_crops"
COLOURS = f"{EFFECTS}::test_colours_are_those_of_torchvision"
SHAPES = f"{EFFECTS}::test_shapes_are_those_of_torchvision_up_to_ties_of_the_nearest_pixel"
ROWS = f"{EFFECTS}::test_a_rows_pixels_depend_neither_on_the_other_rows_nor_on_their_order"
CONTRACT = f"{PIPELINE}::test_a_feed_that_breaks_its_contract_is_stopped_at_the_door"

MUTANTS = [
    # ---- geometry
    ("a flipped crop shows the other side of the image", "spread",
     "resized[:, 1] - corner[:, 1] - crop[:, 1]", "corner[:, 1]", SLICED),
    ("padding of images and labels is black", "_move", "float(value) for value in fill",
     "0.0 for value in fill", SLICED),
    ("images are turned by their EXIF and labels are not", "_build",
     "output_type=types.RGB, adjust_orientation=False", "output_type=types.RGB, adjust_orientation=True",
     f"{PIXELS}::test_a_rotation_noted_in_exif_does_not_turn_the_image_away_from_its_label"),
    ("classes of labels are interpolated", "_build", "types.INTERP_NN", "types.INTERP_LINEAR", ALIGNED),
    ("labels are resized on another grid than images", "_move", "roi_start + nudge", "roi_start + 50 * nudge",
     "tests/cache/images/test_map_nudge.py " + ALIGNED),
    ("between two label pixels a rounding error decides", "NUDGE_PX", "1e-3", "-1e-3",
     "tests/cache/images/test_map_nudge.py"),
    ("a palette label becomes its brightness", "_build", "types.ANY_DATA", "types.GRAY",
     f"{PIPELINE}::test_a_palette_label_is_an_error_and_not_a_brightness"),
    # ---- effects
    ("partners are mixed in without their own effects", "with_effects",
     "[row.partner.effects if row.partner else () for row in rows]", "[() for row in rows]", EXECUTED),
    ("mixing takes the image itself for its partner", "finished",
     "effects, mixed_BHWC)", "effects, images_BHWC.clone())",
     EXECUTED),
    ("effects are executed in the opposite order", "apply_effects",
     "for step in range(max((len(ops) for ops in effects), default=0)):",
     "for step in reversed(range(max((len(ops) for ops in effects), default=0))):",
     EXECUTED),
    ("grey counts every colour alike", "_GREY", "(299, 587, 114)", "(333, 333, 334)", COLOURS),
    ("blended pixels are rounded down", "_blend", " + 500,", ",",
     f"{EFFECTS}::test_mixup_weighs_both_images_and_cutmix_pastes_the_partners_rectangle"),
    ("contrast is taken against the mean of the batch", "_contrast",
     "mean = (2 * _grey(images).long().sum((1, 2, 3), keepdim=True) + pixels) // (2 * pixels)",
     "mean = _grey(images).long().sum() // (pixels * len(images))", ROWS),
    ("hue goes around five sixths of the circle", "_hue", "* 6.0", "* 5.0", COLOURS),
    ("an image is rotated the other way", "_rotation", "sin, -sin", "-sin, sin", SHAPES),
    ("outside of a sheared image is black", "_sampled", "torch.tensor(FILL_RGB,", "torch.tensor((0, 0, 0),",
     SHAPES),
    # ---- feeds
    ("crops of two sizes enter one batch", "check_feed", "assert len(sizes) == 1,", "assert sizes,",
     CONTRACT),
    ("passengers that were not announced are taken", "check_feed",
     "assert len(feed.passengers) == num_passengers,", "assert True,", CONTRACT),
    ("an error of a feed overtakes the batches before it", "_Source.give", "raise StopIteration from None",
     "raise", f"{PIPELINE}::test_an_error_of_the_feed_arrives_as_itself_after_the_batches_before_it"),
    ("an image that cannot be decoded is named by its batch alone", "undecodable",
     'f"{name_of(number, row)} ({place})" if name_of else place', "place",
     f"{PIPELINE}::test_a_sample_that_cannot_be_decoded_is_named"),
]  # fmt: skip
