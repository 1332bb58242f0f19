"""Files of strangers: what they claim is bounded, typed and compared before memory or time is spent on it."""

FILES, READER = "tests/cache/files", "tests/cache/reader/test_hostile.py"
REGULAR, JSON = f"{FILES}/test_regular.py", f"{FILES}/test_plain_json.py"
PICTURE, UNPACK, PICKLED = f"{FILES}/test_picture.py", f"{FILES}/test_unpack.py", f"{FILES}/test_pickled.py"
CLAIMS = f"{READER}::test_what_a_cache_merely_claims_takes_no_memory"
INDEX = f"{READER}::test_an_index_of_targets_is_typed_and_bounded"
SIZES = f"{READER}::test_a_picture_of_another_size_than_its_index_says_is_never_decoded"
HOLES = f"{READER}::test_an_object_of_holes_is_not_read_to_its_end"
FOREIGN = f"{READER}::test_an_image_whose_size_nobody_compares_is_never_decoded"
FOREIGN_MAP = f"{READER}::test_a_label_map_that_is_no_png_is_never_decoded"
BEYOND = "tests/cache/reader/test_samples.py"
TURNS, COPIES = "tests/cache/views/test_block_views.py", "tests/cli/test_compact.py"
ZSTD, WEIGHTS = "tests/cache/stores/test_zstd_bounds.py", "tests/cache/networks/test_weights_bounds.py"
SOURCES, SHAPE = "tests/cache/sources/test_sources_bounds.py", "tests/trainer/folder/test_checkpoint_shape.py"

MUTANTS = [
    # ---- files
    ("a pipe is opened", "open_regular", "if not stat.S_ISREG(status.st_mode):", "if False:", REGULAR),
    ("a file of holes is read to its end", "check_opened", "there * MOSTLY <", "there * 0 >", REGULAR),
    ("depth of values is not looked at", "parse_json", "check_depth(plain, max_depth)", "pass", JSON),
    ("brackets in texts count as depth", "_TOKEN", r'"(?:[^"\\]|\\.)*+"|', "", JSON),
    (
        "height and width of a PNG change places",
        "picture_size",
        "(int.from_bytes(head[20:24]), int.from_bytes(head[16:20]))",
        "(int.from_bytes(head[16:20]), int.from_bytes(head[20:24]))",
        PICTURE,
    ),
    ("a JPEG's table is taken for its frame", "_FRAMES", " - {0xC4, 0xC8, 0xCC}", "", PICTURE),
    (
        "one pixel over the limit is decoded",
        "check_picture_size",
        "> MAX_PIXELS",
        "> MAX_PIXELS + 1",
        PICTURE,
    ),
    ("an npz may claim more than is there", "unpack.py:_array", " or claimed != there", "", UNPACK),
    (
        "an npz may unpack to anything",
        "unpack.py:_array",
        "if member.file_size > max(",
        "if 0 > max(",
        UNPACK,
    ),
    (
        "sizes of axes are multiplied modulo 2^64",
        "unpack.py:_product",
        "total *= side",
        "total = total * side % (1 << 64)",
        UNPACK,
    ),
    ("packed tensors are unpacked", "check_stored", "if packed is not None:", "if False:", UNPACK),
    ("tensors may share their bytes in a file", "check_stored", ") > size:", ") < 0:", UNPACK),
    ("a stream is read beyond its bound", "Bounded.read", "if len(content) > left:", "if False:", UNPACK),
    ("tuples in tuples are hashed", "_Depths.follow", "if depth > MAX_DEPTH:", "if False:", PICKLED),
    ("a memo of any size is made", "_Depths.follow", "if not 0 <= place < MAX_MEMO:", "if False:", PICKLED),
    ("a header of tensors is as long as it says", "check_header", "if length > most:", "if False:", UNPACK),
    # ---- caches
    ("a generation counts samples without end", "_check_room", "if places >", "if 0 >", CLAIMS),
    (
        "views of a manifest are without end",
        "manifest.py:_check_entries",
        "if first > MAX_VIEWS:",
        "if False:",
        CLAIMS,
    ),
    (
        "a crop of gigabytes is accepted",
        "_check_crops",
        "if height * width > MAX_PIXELS:",
        "if False:",
        CLAIMS,
    ),
    (
        "a generation's manifest may be any depth",
        "generation.py:_plain",
        "check_depth(content)",
        "pass",
        CLAIMS,
    ),
    ("an index of samples is of any size", "read_columns", "if len(content) > most:", "if False:", CLAIMS),
    (
        "an image is of another size than declared",
        "SampleBlock._picture",
        "claimed is not None and claimed != said",
        "False",
        SIZES,
    ),
    (
        "an index may claim images of any size",
        "SampleBlock._check_sizes",
        "> MAX_PIXELS",
        "< 0",
        f"{READER}::test_an_index_of_images_that_nobody_could_decode_is_refused",
    ),
    (
        "an index has fewer offsets than rows",
        "_read_offsets",
        "len(columns[part]) != len(sizes)",
        "False",
        INDEX,
    ),
    (
        "an index points between two numbers",
        "TarBlock.__init__",
        "% np.dtype(parts[part].dtype).itemsize",
        "* 0",
        INDEX,
    ),
    (
        "an offset may be any number",
        "webdataset_format.py:Offset",
        "ge=NOT_HERE, lt=1 << 62",
        "ge=-(1 << 62)",
        INDEX,
    ),
    (
        "effects are without end",
        "View.from_json",
        "if len(plain) > _MAX_OPS:",
        "if False:",
        f"{READER}::test_effects_are_few_and_of_numbers_that_a_recipe_can_draw",
    ),
    (
        "a number of an effect overflows",
        "view.py:_well_formed",
        " or abs(n) > _MAX_NUMBER",
        "",
        f"{READER}::test_effects_are_few_and_of_numbers_that_a_recipe_can_draw",
    ),
    (
        "a frame is unpacked to what it says",
        "ShardRows._decompressed",
        "if claimed != self._chunk_bytes:",
        "if False:",
        ZSTD,
    ),
    (
        "sizes of two bytes are taken as they are",
        "zstd_content_bytes",
        " + (256 if flag == 1 else 0)",
        "",
        ZSTD,
    ),
    (
        "a large picture of a batch is decoded",
        "_Source._make",
        "check_pictures(feed, number, self.owner.name_of)",
        "pass",
        "tests/cache/images/test_picture_bounds.py",
    ),
    # ---- weights and checkpoints
    (
        "a file that holds itself is peeled for ever",
        "unwrap",
        "for _ in range(MAX_WRAPPED):",
        "while True:",
        f"{WEIGHTS}::test_a_file_of_torch_that_is_no_state_is_refused",
    ),
    (
        "one number stands for a terabyte",
        "unwrapping.py:is_plain",
        "value.device.type ==",
        "True or value.device.type ==",
        WEIGHTS,
    ),
    ("statistics of pixels are of any length", "_statistics", "len(numbers) != 3 or ", "", WEIGHTS),
    (
        "an empty state is a checkpoint",
        "state_problem",
        '"" if state else "holds an empty state"',
        '""',
        SHAPE,
    ),
    (
        "a digest is of a file elsewhere",
        "checkpoint_shape.py:read_digests",
        "dict[FileName, str]",
        "dict[str, str]",
        SHAPE,
    ),
    # ---- sources
    ("a link back is followed", "listing.py:_walk", "not in own", "not in ()", SOURCES),
    (
        "an archive unpacks without end",
        "cifar.py:_read",
        "Bounded(unpacked, MAX_BYTES)",
        "Bounded(unpacked, 1 << 60)",
        SOURCES,
    ),
    (
        "of a picture too large the size is not said",
        "header_size",
        "check_picture_size(file.read(_HEAD_BYTES))",
        "file.read(0)",
        SOURCES,
    ),
    # ---- what a cache says of its samples
    ("an object of holes is mapped", "LocalStore.open_map", "check_opened(file.fileno())", "pass", HOLES),
    (
        "a picture of any format is decoded",
        "SampleBlock.image",
        "if picture_size(encoded.data) is None and not is_png(encoded.data):",
        "if False:",
        FOREIGN,
    ),
    (
        "a map of any format is decoded",
        "StoredSamples.truth",
        "not is_png(encoded.data)",
        "False",
        FOREIGN_MAP,
    ),
    ("a class is any number", "check_ids", "if highest >= num_classes:", "if False:", BEYOND),
    (
        "boxes have any class",
        "Objects.check_classes",
        "check_ids(value[:, CLASS], num_classes)",
        "pass",
        BEYOND,
    ),
    (
        "what is not square is turned",
        "BlockViews.row",
        "if geometry.crop_h != geometry.crop_w and",
        "if False and",
        TURNS,
    ),
    ("a build goes on with a copy", "standing.py:standing", "    refuse_unfinished_copy(root)\n", "", COPIES),
]
