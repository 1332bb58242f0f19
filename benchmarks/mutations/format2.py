"""Format 2: seals, generations, links, what lives, what a build adopts and retires, what is compared when."""

SEALED = "tests/cache/record/test_sealed.py"
RECORDS, GENERATION = "tests/cache/record/test_records.py", "tests/cache/record/test_generation.py"
COLUMNS, BLOCK = "tests/cache/record/test_row_columns.py", "tests/cache/views/test_block_views.py"
INSIDE, STORE = "tests/cache/stores/test_inside.py", "tests/cache/stores/test_contract.py"
ZARR, TARS = "tests/cache/stores/test_zarr_format.py", "tests/cache/stores/test_sample_tars.py"
READER = "tests/cache/reader"
BUILD, MODEL = "tests/cache/build", "tests/cache/build/test_store_model.py"
VERIFY, STRANGERS = "tests/cache/look/test_verify.py", "tests/cli/test_strangers.py"
TEACHER = "tests/cache/look/test_teacher.py"
LOST = (
    "tests/cache/build/samples/test_survey.py::test_rows_of_a_lost_block_are_dead_and_their_keys_want_others"
)
FIRST, ADVICE = "tests/cache/build/test_first_build.py", "tests/cli/test_advice.py"
PIXELS, ORDER = "tests/trainer/stream/test_pixel_check.py", "tests/trainer/stream/test_order.py"

MUTANTS = [
    # ---- seals
    (
        "a seal is not compared with the bytes",
        "cache/files/seal.py:_opened",
        "if stored != computed:",
        "if False:",
        SEALED,
    ),
    ("a linked file is read", "read_sealed", "follow=False", "follow=True", SEALED),
    ("a file of any size is read", "check_opened", "status.st_size > max_bytes", "False", SEALED),
    # ---- records
    (
        "a record under another shard's name is read",
        "record/records.py:_read",
        "if record.shard != shard:",
        "if False:",
        RECORDS,
    ),
    (
        "another record than the generation names is read",
        "record/records.py:_read",
        "if seal is not None and seal != own:",
        "if False:",
        f"{RECORDS} {READER}",
    ),
    ("records in a linked folder are listed", "list_files", "or folder.is_symlink()", "", RECORDS),
    (
        "columns are no object of their record",
        "objects_of",
        "(record.views, *record.objects)",
        "record.objects",
        RECORDS,
    ),
    # ---- generations
    (
        "holes count as samples",
        "Generation.invalid",
        "np.concatenate([self.retired, holes])",
        "self.retired",
        GENERATION,
    ),
    (
        "retired rows live",
        "Generation.invalid",
        "[self.retired, holes]",
        "[self.retired[:0], holes]",
        GENERATION,
    ),
    ("lost blocks are read", "Generation.block_numbers", "if entry != LOST", "if True", GENERATION),
    ("the oldest generation counts", "newest_generation", "numbers[-1]", "numbers[0]", GENERATION),
    (
        "a generation under another name is read",
        "record/generation.py:_read",
        "if body.number != number:",
        "if False:",
        GENERATION,
    ),
    (
        "retired rows may be holes",
        "record/generation.py:_check",
        "if any(i % size >=",
        "if False and any(i % size >=",
        GENERATION,
    ),
    # ---- columns
    ("a row may be half valid", "unpack_views", "if (valid > 1).any():", "if False:", COLUMNS),
    ("any geometry is believed", "check_block_views", "if not good.all():", "if False:", BLOCK),
    (
        "a crop may be of another size than its set",
        "check_block_views",
        "good = (shape == wanted).all(1)",
        "good = (shape >= 1).all(1)",
        BLOCK,
    ),
    (
        "text may end before it begins",
        "text_column",
        "or (np.diff(ends, prepend=0) < 0).any()",
        "",
        "tests/cache/stores/test_columns.py",
    ),
    # ---- the store
    ("links are followed", "path_inside", "if is_link:", "if False:", INSIDE),
    (
        "names may leave the cache",
        "path_inside",
        'any(part in ("", ".", "..") for part in parts)',
        "False",
        INSIDE,
    ),
    ("what is created replaces", "LocalStore.create", "buffer, _link)", "buffer, os.replace)", STORE),
    ("a live array is described anew", "describe_array", "if other and not live:", "if other:", ZARR),
    ("spans may lie outside of the tar", "SampleBlock._spans", "spans.min() < 0 or", "False and", TARS),
    # ---- the reader
    (
        "targets of other samples are read",
        "Cache.targets_record",
        "if record.samples != self.generation.blocks[key.block].seal:",
        "if False:",
        READER,
    ),
    (
        "passes that saw other pixels are joined",
        "reader/cache.py:_joined",
        "if not same or (views.valid & ~whole.valid).any():",
        "if False:",
        READER,
    ),
    (
        "a generation of another cache is opened",
        "open_generation",
        "if generation.manifest.identity != manifest.identity:",
        "if False:",
        f"{READER} {VERIFY}",
    ),
    (
        "holes have an index",
        "StoredSamples._place",
        "if row >= self.generation.blocks[block].rows:",
        "if False:",
        READER,
    ),
    (
        "the classes of retired samples are told",
        "StoredSamples.column",
        "values[self.invalid] =",
        "values[self.invalid[:0]] =",
        READER,
    ),
    # ---- builds
    ("changed samples stay", "survey", "dead |= {change.row for change in changes}", "pass", MODEL),
    (
        "an edited label is an edited image",
        "_changes",
        '"label" if same_image else "image"',
        '"image"',
        BUILD,
    ),
    ("every build renews", "survey", "    if update:", "    if True:", MODEL),
    ("rows of lost blocks live", "survey", "for b in lost for row", "for b in () for row", LOST),
    ("unwanted rows of a kept block count", "assign", "unwanted |= {", "unwanted &= {", BUILD),
    (
        "rows that show a changed sample live on",
        "survey",
        "dead |= set(mixed)",
        "pass",
        "tests/cache/build/samples/test_survey.py::test_a_row_that_shows_a_changed_sample_is_made_again",
    ),
    (
        "unfinished rows that show a changed sample are kept",
        "drop_stale",
        "if views is None or _shows_dead(",
        "if views is None or False and _shows_dead(",
        "tests/cache/build/test_pending.py"
        "::test_unfinished_rows_that_show_what_has_changed_since_are_made_again",
    ),
    (
        "files that changed since are adopted",
        "assign.py:_same",
        "content_or_none(source, index) == content",
        "True",
        BUILD,
    ),
    ("a retired row is computed again", "draw.py:_places", "and first + place not in living.dead", "", BUILD),
    (
        "a generation is written though nothing changed",
        "settle.py:settle",
        "return old.number",
        "pass",
        BUILD,
    ),
    (
        "repair writes whatever it gets",
        "write.py:put_back",
        "if seal_of(content) != seal:",
        "if False:",
        BUILD,
    ),
    ("a later tap may see other pixels", "EarlierPixels.compare", "if len(differ):", "if False:", BUILD),
    (
        "a copy is made of another image",
        "Copies._same_image",
        "np.array_equal(old.image_digests[old_row], new.image_digests[place])",
        "True",
        f"{BUILD} {MODEL}",
    ),
    ("other data take a cache over", "check_moved", "if 2 * sum(same) < len(same):", "if False:", BUILD),
    # ---- looks
    (
        "verify does not read objects",
        "look/verify.py:_of_shards",
        "for entry in objects_of(record):",
        "for entry in ():",
        VERIFY,
    ),
    (
        "verify does not compare links",
        "look/verify.py:_of_shards",
        "record.samples != generation.blocks[key.block].seal",
        "False",
        VERIFY,
    ),
    (
        "a row beyond its bound is fine",
        "look/verify.py:_compare",
        "not bool((difference <= bound + slack).all())",
        "False",
        "tests/cache/look tests/cli",
    ),
    # ---- training
    ("pixels that pass are not compared", "PassingPixels.compare", "_require(", "bool(", PIXELS),
    (
        "no row is made again before the first batch",
        "check_pixels",
        "cache.stored_rows(REMADE)",
        "cache.stored_rows(0)",
        f"{PIXELS} tests/trainer/stream/test_stored_stream.py",
    ),
    (
        "a resumed run takes the newest generation",
        "trainer/run.py:training_of",
        "begun_generation(run_dir) if resume else None",
        "None",
        "tests/trainer/test_resume_on_cache.py",
    ),
    (
        "windows of the order count indices",
        "EpochOrder.__init__",
        "order.num_valid // full",
        "order.num_samples // full",
        ORDER,
    ),
    # ---- consent
    ("everything is trusted", "is_trusted", "module in _trusted or", "True or", STRANGERS),
    (
        "a package's modules are trusted with it",
        "is_trusted",
        "module in _trusted or",
        "any(module.startswith(name) for name in _trusted) or",
        STRANGERS,
    ),
    (
        "consent outlives its command",
        "trust.py:consent",
        "_trusted.difference_update(added)",
        "pass",
        STRANGERS,
    ),
    (
        "a run's factory needs no consent",
        "load_run_network",
        "require_trust(foreign_names(config)",
        "require_trust([]",
        STRANGERS,
    ),
    ("a path in a manifest is followed", "own_teacher", '"/" in m or', "", TEACHER),
    (
        "a factory in a manifest is called",
        "own_teacher",
        "[*factories, *manifest.foreign_names]",
        "[]",
        TEACHER,
    ),
    (
        "--trust is no consent for a cache's teacher",
        "own_teacher",
        '"/" in m or',
        '":" in m or "/" in m or',
        TEACHER,
    ),
    (
        "the line for a teacher's path forgets the cache",
        "own_teacher",
        'if not cache or typed_option("--cache")',
        "if True",
        TEACHER,
    ),
    (
        "digests need a codec's code",
        "verify.py:_of_arrays",
        "if tap not in strange",
        "",
        f"{STRANGERS}::test_digests_of_a_strange_codecs_cache_are_checked_without_running_it",
    ),
    (
        "what verify left out is not said",
        "check_seals",
        "_say_undescribed(generation, terminal)",
        "pass",
        f"{STRANGERS}::test_digests_of_a_strange_codecs_cache_are_checked_without_running_it",
    ),
    (
        "show asks a strange codec for its sizes",
        "print_cache",
        "known = codecs_are_trusted(m)",
        "known = True",
        f"{STRANGERS}::test_a_cache_of_a_strange_codec_with_retired_rows_is_shown",
    ),
    ("looking for a module runs its package", "_is_module", 'dotted.partition(".")[0]', "dotted", STRANGERS),
    (
        "a stored configuration needs no consent",
        "folder/start.py:_require_consent",
        "require_trust(named,",
        "require_trust([],",
        STRANGERS,
    ),
    (
        "what is there with other contents counts as created",
        "LocalStore.create",
        "if _holds(path, bytes(buffer)):",
        "if True:",
        STORE,
    ),
    (
        "a description that misleads is not said",
        "_array_problem",
        "sorted(_differences(described, wanted))",
        "()",
        ZARR,
    ),
    (
        "a full disk leaves half a file behind",
        "LocalStore._write",
        "temporary.unlink(missing_ok=True)",
        "pass",
        "tests/cache/stores/test_local.py",
    ),
    ("a key is found where it retired", "StoredSamples.find", "and first + row not in dead", "", READER),
    (
        "samples of another task are taken",
        "StoredSamples._check_truth",
        "set(samples.columns) != set(self._truth.columns)",
        "False",
        READER,
    ),
    (
        "a deep check lets the teacher train",
        "deep_check",
        "teacher.eval()",
        "teacher.train()",
        "tests/cache/look",
    ),
    (
        "a manifest of a newer format is read",
        "_check_format",
        "if written > FORMAT:",
        "if False:",
        "tests/cache/record/test_manifest.py",
    ),
    # ---- what a command says and keeps
    (
        "a first build that died is begun anew by a command that says less",
        "make_plan",
        "drawn, named.claimed)",
        "drawn, None)",
        FIRST,
    ),
    (
        "a cache without a manifest is none",
        "record/find.py:is_cache",
        'or any((path / FOLDER).glob("*.json"))',
        "",
        "tests/cache/record/test_find.py",
    ),
    ("a lost block is unfinished for ever", "unfinished", "and key.block not in lost", "", ADVICE),
    ("advice does not say which cache", "advised", "if not _named:", "if True:", ADVICE),
    ("advice names no path", "advice.py:cache_word", "else str(root)", "else root.name", ADVICE),
    ("lost samples are not told", "BuildDisplay.repaired", "if repaired.lost:", "if False:", ADVICE),
    (
        "validation labels may be of other classes",
        "trainer/assemble.py:_validation",
        "if differ := other_classes(run_source.class_names, source.class_names):",
        "if differ := '':",
        "tests/trainer/test_run.py",
    ),
]
