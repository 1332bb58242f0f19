"""Building and reading a cache: evaluation mode, one precision per cache, batch size, digests of samples,
names of classes. Each change would give other targets, images or names than the cache claims, in silence."""

EVALUATION = "tests/cache/build/test_evaluation_mode.py"
PRECISION = "tests/cache/build/test_precision.py"
GROWN = f"{PRECISION}::test_what_is_added_without_amp_is_computed_in_the_caches_precision"
NAMES = f"{PRECISION}::test_caches_of_one_teacher_in_several_precisions_have_several_names"
REFUSED = f"{PRECISION}::test_growing_in_another_precision_is_refused"
SIZES = "tests/cache/build/test_batch_size.py"
DIGESTS = "tests/cache/reader/test_sample_digests.py"
KEPT_DIGEST = f"{SIZES}::test_the_digest_that_is_kept_of_a_row_is_that_of_its_pixels_alone"
CLASSES = "tests/cache/sources/test_class_names.py"

MUTANTS = [
    # ---- the teacher as it is evaluated
    ("the teacher is not put into evaluation mode", "TargetBuilder.__init__", ".eval()", "", EVALUATION),
    ("the teacher runs in training mode", "TargetBuilder.__init__", ".eval()", ".train()", EVALUATION),
    # ---- precision
    ("the precision is no part of a cache's identity", "_identity",
     '        "precision": precision,\n', "", NAMES),
    ("a grown cache computes in float32 whatever its manifest says", "chosen_precision",
     "    return old.precision", '    return "fp32"', GROWN),
    ("the forward of a build ignores the cache's precision", "TargetBuilder._answered",
     "in_precision(self.manifest.precision, self.device.type)", 'in_precision("fp32", self.device.type)',
     GROWN),
    ("a bf16 cache is computed in fp16", "PRECISIONS",
     '"bf16": "bfloat16", "fp16": "float16"', '"bf16": "float16", "fp16": "bfloat16"', GROWN),
    ("the manifest says fp32 of every cache", "_fresh", 'str(identity["precision"])', '"fp32"', NAMES),
    ("growing in another precision is not refused", "chosen_precision",
     "amp is not None and _kept(amp) != old.precision", "False", REFUSED),
    ("growing a bf16 cache with --amp no is not refused", "chosen_precision",
     "amp is not None and", 'amp not in (None, "no") and', REFUSED),
    ("repeating the cache's own precision is refused", "chosen_precision",
     "_kept(amp) != old.precision", "amp",
     f"{PRECISION}::test_a_command_that_repeats_the_caches_own_precision_is_followed"),
    ("--amp of the command line is 'no' when it was not written", "cli/kdcache:build_options",
     "amp=amp,", 'amp=amp or "no",', "tests/cli/test_build_amp.py"),
    ("the command that would build the other cache leaves out the split", "_split_words", 'split == "train"',
     'split != ""', "tests/cli/test_build_amp.py"),
    ("the command that would build the other cache is not quoted", "chosen_precision",
     'shell_line([*build_words(old), "--amp", amp])', '" ".join([*build_words(old), "--amp", amp])',
     "tests/cli/test_build_amp.py"),
    ("a deep check computes in float32 whatever the cache's precision", "deep_check",
     "in_precision(cache.manifest.precision, ", 'in_precision("fp32", ',
     f"{PRECISION}::test_a_deep_check_finds_the_targets_that_the_precision_gave"),
    # ---- batch size
    ("targets of a batch are written in the reverse order of its rows", "Finisher._place",
     "zip(batch.rows, of_rows, strict=True)", "zip(reversed(batch.rows), of_rows, strict=True)", SIZES),
    ("the digest that is kept of a row is that of the first one of its batch", "Finisher._encoded",
     "zip(digests, answered.rows, strict=True)", "((digests[0], row) for row in answered.rows)",
     KEPT_DIGEST),
    ("the digest that is kept is of another row of the batch", "Finisher._encoded",
     "zip(digests, answered.rows, strict=True)", "zip(digests[::-1], answered.rows, strict=True)",
     KEPT_DIGEST),
    ("int8 levels are those of the whole batch", "codecs/int8.py:_levels",
     "value_BCHW.amin((2, 3)), value_BCHW.amax((2, 3))",
     "value_BCHW.amin((0, 2, 3)).expand(value_BCHW.shape[:2]), value_BCHW.amax((2, 3))", SIZES),
    ("colour of the whole batch is that of its first row", "with_effects",
     "[row.effects for row in rows], mixed_BHWC",
     "[row.effects and rows[0].effects for row in rows], mixed_BHWC", SIZES),
    # ---- digests of samples
    ("the digest of an image tar is not checked in classification", "StoredSamples.image",
     "        self._check_object(tar_name(block))\n",
     "        if not self._truth.one_class:\n            self._check_object(tar_name(block))\n", DIGESTS),
    ("the digest of an image tar is not checked", "StoredSamples.image",
     "        self._check_object(tar_name(block))\n", "", DIGESTS),
    ("a damaged object counts as checked", "StoredSamples.check_object",
     "        problem = object_problem(self.store, entry)\n",
     "        self._checked.add(entry.name)\n        problem = object_problem(self.store, entry)\n", DIGESTS),
    ("the index of samples is not checked", "StoredSamples.block", "self._check_object(index_name(block))",
     "pass", DIGESTS),
    ("objects are compared by their size alone", "_differs",
     "digest == entry.digest", "bool(digest)", DIGESTS),
    ("a digest covers the first piece of a file alone", "local.py:_write_file",
     "state.update(rest[:written])", "state.update(rest[: written * (not num_bytes)])",
     "tests/cache/stores/test_local.py::test_a_write_in_small_pieces_is_still_whole"),
    ("a digest of buffers covers the first of them alone", "digest_bytes", "in buffers:", "in buffers[:1]:",
     DIGESTS),
    ("verify does not look at samples", "look/verify.py:_of_shards", "in sorted(generation.seals.items()):",
     "in sorted(pair for pair in generation.seals.items() if pair[0].view >= 0):", DIGESTS),
    # ---- names and numbers of classes
    ("two class names of CamVid are swapped", "camvid.py:CLASSES",
     '"sign_symbol", "fence"', '"fence", "sign_symbol"', CLASSES),
    ("two ids of CamVid are swapped", "CamVid.class_map_of",
     "{i: i for i in range(len(CLASSES))}", "{i: i ^ (i in (8, 9)) for i in range(len(CLASSES))}", CLASSES),
    ("void of CamVid in SegNet's layout is class 10", "camvid.py:VOID", "11", "12", CLASSES),
    ("two class names of VOC are swapped", "voc.py:CLASSES", '"bus", "car"', '"car", "bus"', CLASSES),
    ("two class names of CIFAR-10 are swapped", "CIFAR10_CLASSES", '"cat", "deer"', '"deer", "cat"', CLASSES),
    ("two class names of Fashion-MNIST are swapped", "fashion_mnist.py:CLASSES",
     '"Sandal", "Shirt"', '"Shirt", "Sandal"', CLASSES),
]  # fmt: skip
