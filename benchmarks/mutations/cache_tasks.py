"""Tasks: what each stores as truth, how mixed classes are ordered, and that none is taken for another."""

TABLE, TRUTH = "tests/cache/tasks/test_table.py", "tests/cache/tasks/test_truth.py"
UNKNOWN = f"{TABLE}::test_an_unknown_task_is_an_error_and_never_another_one"
NAMED = f"{TABLE}::test_records_name_every_task_but_the_one_of_before"
LARGER = f"{TRUTH}::test_of_two_mixed_classes_the_one_with_the_larger_share_comes_first"
PARSED = f"{TRUTH}::test_a_class_is_parsed_from_ascii"
COLUMN = "tests/cache/reader/test_samples.py"
MAPS = "tests/cache/reader/test_rows.py::test_only_maps_ride_with_their_images"
DEFAULTS = "tests/cache/build/test_build_classification.py::test_nobody_has_to_name_targets_or_recipe"
RECIPES = "tests/cache/views/test_recipe.py"

MUTANTS = [
    # ---- the table
    ("an unknown task is the first one", "task_row", "if name not in TASKS:", "if not TASKS:", UNKNOWN),
    ("an unknown task in a record is taken", "read_task", "    task_row(name, where=where)\n", "", UNKNOWN),
    ("a number is the name of a task", "read_task", "if not isinstance(name, str):", "if False:", UNKNOWN),
    ("records of the first task name it", "tasks/table:written", "if task == _UNNAMED", "if False", NAMED),
    ("records of other tasks are read as the first", "read_task", "record.get(_FIELD, _UNNAMED)", "_UNNAMED",
     NAMED),
    # ---- classes
    ("of two mixed classes the smaller share comes first", "ImageClass.collate_columns", "share_B < 0.5",
     "share_B > 0.5", LARGER),
    ("the share of a mixed image is its own sample's", "ImageClass.collate_columns",
     "torch.where(smaller_B, 1 - share_B, share_B)", "share_B", LARGER),
    ("classes of a batch are those of their partners", "ImageClass.collate",
     "_column([row.own for row in rows])", "_column([row.own for row in reversed(rows)])",
     f"{TRUTH}::test_what_is_not_mixed_has_no_second_class"),
    ("an invalid sample has the first class", "tasks/classification:_NONE", "-1", "0", PARSED),
    ("the class of a sample is read beside its place", "ImageClass.from_columns", "[row : row + 1]",
     "[:1]", f"{TRUTH}::test_a_class_is_known_from_its_column"),
    ("valid samples without a class are taken", "ImageClass.check_columns",
     "if ((columns[_COLUMN] >= 0) != valid).any():", "if False:",
     f"{COLUMN}::test_classes_of_other_samples_than_the_valid_ones_are_damage"),
    # ---- maps
    ("maps are not moved with their pixels", "PixelClasses", "rides = True", "rides = False", MAPS),
    ("ignored pixels are drawn like a class", "colour_classes", "min(num_classes, IGNORE)", "256",
     f"{TRUTH}::test_panels_show_names_or_colours"),
    # ---- what a task has
    ("a classifier's cache keeps logits alone", "tasks/classification:KIND",
     'default_taps=("embedding", "logits")', 'default_taps=("logits",)', DEFAULTS),
    ("a cache of classification holds four views", "tasks/classification:KIND", 'default_views="crops:8"',
     'default_views="crops:4"', DEFAULTS),
    ("segmentation may mix images", "tasks/segmentation:KIND", 'items=("scale", "flip", "jitter")',
     'items=("scale", "flip", "jitter", "mixup")',
     f"{RECIPES}::test_what_cannot_be_is_refused_naming_the_way_out"),
    ("crops of segmentation need not be scaled", "tasks/segmentation:KIND", 'always={"scale": (1.0, 1.0)},',
     "", f"{RECIPES}::test_segmentation_always_crops"),
    ("classifiers take an output stride", "tasks/classification:KIND",
     'no_stride="classifiers keep the stride they have"', 'no_stride=""',
     f"{TABLE}::test_a_task_says_either_a_stride_or_why_there_is_none"),
]  # fmt: skip
