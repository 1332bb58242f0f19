"""Weights in their wrappers, networks of one input size, remarks on data, losses that fit a teacher."""

WRAPPED, WEIGHTS = "tests/cache/networks/test_wrapped_weights.py", "tests/cache/networks/test_weights.py"
IDENTITY = f"{WRAPPED}::test_wrapped_weights_have_the_identity_of_the_bare_file"
CONVERTS = f"{WRAPPED}::test_the_line_that_converts_a_refused_pickle_works_when_typed"
FIXED, REMARKS = "tests/cache/build/test_fixed_size.py", "tests/cache/sources/test_remarks.py"
VIEWS, FIT = "tests/cache/build/test_build_views.py", "tests/losses/plan/test_fit.py"
STRIDE, OPTIONS = "tests/trainer/students/test_stride_said.py", "tests/trainer/test_config.py"
SHOWN = "tests/cli/test_loss_fit.py"

MUTANTS = [
    # ---- wrappers
    ("plain weights are taken before averaged ones", "WRAPPERS", "(*AVERAGED, *PLAIN)", "(*PLAIN, *AVERAGED)",
     IDENTITY),
    ("names of compiled modules stay inside", "INSIDE", '"_orig_mod", ', "", IDENTITY),
    ("the counter of averaged weights is a foreign name", "_bare_names",
     "if COUNTER in state and len(state) > 1", "if False", IDENTITY),
    ("a prefix beside foreign names stays on", "choose_names", "if good:", "if False:", IDENTITY),
    ("a loss beside the network refuses it", "choose_names", "not score({n: state[n]})", "False", IDENTITY),
    ("what was left out is not said", "_left_out", "if not names:", "if True:", IDENTITY),
    ("the first of two networks is taken", "choose_names", "if rivals:", "if False:",
     f"{WRAPPED}::test_two_networks_that_fit_are_not_guessed"),
    ("the same network twice is ambiguous", "choose_names", " and not _equal(below[p], below[first])", "",
     IDENTITY),
    ("a part that is mostly foreign is taken", "choose_names", " and 2 * scores[p] >= len(below[p])", "",
     f"{WRAPPED}::test_names_are_not_peeled_where_that_brings_nothing_home"),
    ("a key is forgotten", "_choose", "key if key in parts else ", "",
     f"{WRAPPED}::test_a_part_of_a_checkpoint_is_taken_by_its_key"),
    ("an optimizer may be the network", "_is_part", "_TRAINING.search(name) or ", "", IDENTITY),
    ("a file with the mark in its name is split", "named_file", "if path.exists():", "if False:",
     f"{WRAPPED}::test_a_file_whose_own_name_has_the_mark_is_that_file"),
    ("options of a checkpoint are run", "_conversion", "weights_only={bool(harmless)}",
     "weights_only={not harmless}", CONVERTS),
    ("a line for the shell is not quoted", "_conversion", "shell_line(", '" ".join(', CONVERTS),
    ("a hub that is silent is asked again and again", "_from_hub", "constants.HF_HUB_OFFLINE = True", "pass",
     f"{WEIGHTS}::test_a_hub_that_does_not_answer_is_asked_once"),
    ("the hub stays switched off", "_from_hub", "constants.HF_HUB_OFFLINE = before", "pass",
     f"{WEIGHTS}::test_a_hub_that_does_not_answer_is_asked_once"),
    # ---- one input size
    ("taps are probed at another size than the cache's", "tap_entries", "*crop)", "64, 64)", FIXED),
    ("exits are measured at one pixel", "_stages", "*network.probe_px", "1, 1", FIXED),
    ("an ensemble is probed at its first member's size", "Ensemble.__init__",
     "self.fixed_px or networks[0].probe_px", "networks[0].probe_px", FIXED),
    ("weights of listed taps are ignored", "network_for_listing",
     "output_stride=stride, weights=weights)", "output_stride=stride, weights=None)", FIXED),
    # ---- remarks
    ("ignored pixels are not said", "label_remarks", "if ignored:", "if False:", REMARKS),
    ("half ignored is no warning", "label_remarks", "2 * ignored > total", "ignored > total", REMARKS),
    ("labels from 1 are not said", "label_remarks", "and not pixels[0]", "and False", REMARKS),
    ("classes from 1 are not said", "class_remarks", "if labels_N.size and not (labels_N == 0).any():",
     "if False:", REMARKS),
    ("bright 16-bit images are called dark", "depth_remarks", "max(highs) < DARK",
     "max(highs) <= FULL_16_BIT", REMARKS),
    ("labels of another size pass", "FileSource.label_bytes",
     "label.ids_HW.shape != (size := self.size(index))", "(size := ()) != ()", REMARKS),
    ("an npz file that is there is called missing", "Npz.missing_folder", "if file is None:", "if True:",
     REMARKS),
    # ---- options
    ("another seed is ignored", "_refuse_other_layout", "options.seed if seeds else None", "None", VIEWS),
    ("more views are drawn from seed 0", "grown_manifest", "_seed_of(old) if options.seed is None",
     "0 if options.seed is None", VIEWS),
    ("fresh views ask for one option at a time", "StreamOptions._check_fresh",
     '[] if self.online else ["--online"]', "[]", OPTIONS),
    ("a factory has the task's stride", "_stride_said", "if not foreign_names(deployed.config):", "if True:",
     STRIDE),
    # ---- losses that fit
    ("a loss that no student fits is offered", "fit_of", "if (why := refused(student)) is not None:",
     "if (why := None) is not None:", FIT),
    ("logits of a student are halved", "_changed", "tap not in (LOGITS, AUX) and kind_of", "kind_of",
     FIT),
    ("channels of a student are not tried", "_fewer_channels", "spec.channels // 2", "spec.channels", FIT),
    ("--for builds for a loss that no student fits", "make_plan", "if options.fits is not None:", "if False:",
     SHOWN),
    ("--for does not look at the views", "loss_fit.py:_asked",
     "if plan.turns and not _turned(manifest):", "if False:", SHOWN),
]  # fmt: skip
