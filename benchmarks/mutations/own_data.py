"""Data of somebody's own: class maps, sources named on the command line, data to judge on, names of caches,
the folder of weights."""

TOML = "tests/cache/sources/own/test_classes_toml.py"
NAMED, FIND = "tests/cache/sources/own/test_named.py", "tests/cache/record/test_find.py"
OWN, WEIGHTS = "tests/cli/test_own_data.py", "tests/cache/networks/test_weights_folder.py"
LOOP = f"{TOML}::test_colours_become_the_train_ids_that_a_loop_over_pixels_gives"
REFUSED = f"{TOML}::test_a_table_that_cannot_number_labels_is_refused"
PREFIX = f"{FIND}::test_the_beginning_of_a_name_is_enough_where_one_cache_has_it"

MUTANTS = [
    # ---- class maps
    (
        "red and blue of a colour are exchanged",
        "packed",
        "red | green << 8 | blue << 16",
        "blue | green << 8 | red << 16",
        LOOP,
    ),
    (
        "an unknown colour is ignored",
        "ClassMap._require_colours",
        "if not strange.size:",
        "if True:",
        f"{TOML}::test_an_unknown_colour_is_named_with_its_pixels_and_the_nearest",
    ),
    (
        "the nearest colour is the farthest",
        "ClassMap._nearest",
        "min(self",
        "max(self",
        f"{TOML}::test_an_unknown_colour_is_named_with_its_pixels_and_the_nearest",
    ),
    (
        "a palette's index is a class although the classes have colours alone",
        "ClassMap.reads_colours",
        "self.by_colour or ",
        "",
        f"{TOML}::test_a_palette_is_read_by_colour_where_classes_have_colours_alone",
    ),
    (
        "16 bits a channel are cut to 8",
        "_colours_of",
        "if depth > 8:",
        "if False:",
        f"{TOML}::test_16_bits_a_channel_are_not_cut_to_8",
    ),
    (
        "transparent pixels have the colour below",
        "_colours_of",
        '"A" in image.mode',
        "False",
        f"{TOML}::test_transparent_pixels_have_no_class",
    ),
    (
        "colours are no part of a cache's identity",
        "ClassMap.text",
        '*(f"{colour_text(c)}>{i}" for c, i in self._of_colours.items())',
        "",
        f"{TOML}::test_another_map_is_another_identity",
    ),
    (
        "values above 255 are outside every map",
        "ClassMap.__init__",
        "else MOST_VALUE + 1",
        "else 256",
        f"{TOML}::test_values_up_to_16_bits_become_train_ids",
    ),
    (
        "255 is a class and ignored",
        "_mapped",
        "ids.setdefault(IGNORE, IGNORE)",
        "ids[IGNORE] = IGNORE",
        f"{TOML}::test_a_class_may_have_255_and_then_it_is_not_ignored",
    ),
    ("one value is of two classes", "_owners", "if value in train_ids:", "if False:", REFUSED),
    (
        "an unknown key of classes.toml is left aside",
        "own/classes_toml:_refuse_unknown",
        "if key not in legal:",
        "if False:",
        REFUSED,
    ),
    (
        "classes.txt is left aside where classes.toml is",
        "Folder.class_map_of",
        "if (other := self.root / NAMES_FILE).is_file():",
        "if False:",
        f"{TOML}::test_two_files_of_class_names_are_refused",
    ),
    # ---- sources named on the command line
    (
        "a source that a file names runs unasked",
        "sources/table:_parse",
        "require_trust([name]",
        "require_trust([]",
        f"{NAMED}::test_code_that_nobody_named_is_not_imported",
    ),
    (
        "a folder with a colon is taken for code",
        "split_spec",
        "own_parts(spec) if name not in SOURCES else None",
        "own_parts(spec)",
        f"{NAMED}::test_which_part_is_a_name_and_which_a_folder",
    ),
    (
        "a source's failure points at kdcache",
        "own/named:_failed",
        "if Path(frame.filename).stem == last",
        "if False",
        f"{NAMED}::test_what_its_code_raises_points_at_its_line",
    ),
    (
        "two folders of a source of one's own share a cache",
        "_guarded",
        "self.root.name or kind.__name__",
        "kind.__name__",
        f"{NAMED}::test_values_and_names_are_those_that_the_class_says",
    ),
    (
        "--data that names code is no consent",
        "cli/shared:_naming",
        "names += _own_data(word)",
        "pass",
        f"{OWN}::test_resuming_and_growing_ask_again_for_consent",
    ),
    # ---- data to judge on
    (
        "classes of --val-data are not compared",
        "_named_validation",
        "if differ:",
        "if False:",
        f"{OWN}::test_data_of_other_classes_judge_nothing",
    ),
    (
        "--val-data judges nothing",
        "trainer/assemble:_validation",
        "_named_validation(config.val_data, run_source), f",
        'open_source(run_source.spec, "val"), f',
        f"{OWN}::test_data_to_judge_on_that_are_not_there_stop_the_run",
    ),
    (
        "eval judges a run on other data than it was judged on",
        "_judging_data",
        'if split == "val"',
        "if False",
        f"{OWN}::test_other_data_judge_a_run_and_its_later_evaluation",
    ),
    # ---- names of caches
    (
        "of two caches that begin so the first is taken",
        "record/find:find_cache",
        "if len(meant) == 1:",
        "if meant:",
        PREFIX,
    ),
    (
        "a run whose cache was removed goes on with another",
        "stored_cache",
        "if exact is None:",
        "if exact is None and (exact := find_cache(name, caches_dir)) is None:",
        f"{FIND}::test_what_a_file_remembers_is_never_taken_for_a_beginning",
    ),
    (
        "data and teacher are exchanged",
        "_names_of",
        "(teacher, one) for teacher in",
        "(one, teacher) for teacher in",
        f"{FIND}::test_teacher_and_data_name_a_cache",
    ),
    # ---- the folder of weights
    (
        "a torn file of weights is taken",
        "weights_folder:_check_digest",
        "if match and not",
        "if False and not",
        f"{WEIGHTS}::test_the_name_of_its_address_needs_the_digest_that_stands_in_it",
    ),
    (
        "a file of other weights serves a tag",
        "timm_files",
        "if default else []",
        "if True else []",
        f"{WEIGHTS}::test_a_tag_is_not_served_by_the_bare_name",
    ),
    (
        "the folder is searched last",
        "downloads:download",
        "if own := own_weights(files):",
        "if own := own_weights(()):",
        f"{WEIGHTS}::test_a_file_of_a_name_of_timm_or_the_hub_is_taken",
    ),
    (
        "a gate that answers for a server counts as the server",
        "_require_answer",
        "answer.code < FIRST_OF_SERVER",
        "True",
        f"{WEIGHTS}::test_a_gate_that_answers_for_the_server_ends_the_attempt",
    ),
]
