"""Defaults: what happens where nothing is written, in the code and in every text that repeats it.

A slipped default trains another method than the published one, silently. A slipped text tells the user
something else than what happens. Both sides are changed here, one at a time.
"""

SETTINGS = "tests/losses/plan/test_published_settings.py"
OF_LOSS = f"{SETTINGS}::test_a_loss_without_options_has_the_published_settings"
OF_DATASET = f"{SETTINGS}::test_a_loss_on_a_published_dataset_has_the_settings_published_for_it"
BROUGHT = f"{SETTINGS}::test_what_a_method_brings_along_is_set_as_its_code_sets_it"
OPTIMIZER = "tests/trainer/steps/test_optimizer.py"
TRAIN = "tests/cli/test_help_defaults.py::test_every_default_that_kdtrain_states_is_the_one_it_trains_with"
CHAIN = (
    "tests/cli/test_help_defaults.py::test_every_default_that_kdtrain_chain_states_is_the_one_it_trains_with"
)
CHAINED = (
    "tests/cli/test_help_defaults.py::"
    "test_a_chain_without_loss_and_name_distils_with_kd_in_runs_that_begin_with_chain"
)
BUILD = (
    "tests/cli/test_help_defaults.py::test_every_default_that_kdcache_build_states_is_the_one_it_builds_with"
)
BUILT = "tests/cli/test_build_as_typed.py::test_a_build_without_options_keeps_what_the_help_says"
JUDGE = (
    "tests/cli/test_help_defaults.py::test_every_default_that_kdtrain_eval_states_is_the_one_it_judges_with"
)
LOOK = (
    "tests/cli/test_help_defaults.py::test_every_default_that_a_command_for_looking_states_is_the_one_it_uses"
)
WORDS = (
    "tests/cli/test_method_defaults.py::test_a_number_that_the_settings_of_a_method_repeat_is_the_one_it_uses"
)
TABLE = "tests/cli/test_method_defaults.py::test_the_printed_default_of_every_option_is_that_of_the_signature"
DOCUMENT = "tests/test_documented_defaults.py"
CIRKD, OKDDIP = "CrossImage.__init__", "DiversePeers.__init__"

MUTANTS = [
    # cirkd
    ("cirkd weighs its batch term with 0.5", CIRKD, "batch\")] = 1.0", "batch\")] = 0.5", OF_LOSS),
    ("cirkd weighs stored pixels with 0.01", CIRKD, "pixels\")] = 0.1", "pixels\")] = 0.01", OF_LOSS),
    ("cirkd weighs stored regions with 0.2", CIRKD, "stored regions\")] = 0.1", "stored regions\")] = 0.2",
     OF_LOSS),
    ("cirkd divides cosines by 1", CIRKD, "cosines\")] = 0.1", "cosines\")] = 1.0", OF_LOSS),
    ("cirkd pools before the batch term", CIRKD, "batch term\")] = 1,", "batch term\")] = 2,", OF_LOSS),
    ("cirkd fills its memory the repaired way", CIRKD, '= "faithful"', '= "corrected"', OF_LOSS),
    ("cirkd keeps a tenth of the pixels", CIRKD, "= 20000", "= 2000", OF_LOSS),
    ("cirkd keeps more regions", CIRKD, "= 2000,", "= 20000,", OF_LOSS),
    ("cirkd contrasts half of the pixels", CIRKD, "= 4096", "= 2048", OF_LOSS),
    ("cirkd contrasts half of the regions", CIRKD, "= 1024", "= 512", OF_LOSS),
    ("cirkd stores 8 pixels a step", CIRKD, "= 16,", "= 8,", OF_LOSS),
    ("cirkd brings kd at T 4", "CrossImage.companions", '"T": 1.0', '"T": 4.0', BROUGHT),
    ("the sentence on cirkd gives kd another weight", "CrossImage.method", "kd 1, batch 1", "kd 10, batch 1",
     WORDS),
    ("the sentence on cirkd gives VOC another weight", "CrossImage.method", "VOC 0.01", "VOC 0.02", WORDS),
    # okddip
    ("okddip has 3 networks", OKDDIP, "included\")] = 4", "included\")] = 3", OF_LOSS),
    ("okddip trains whole networks", OKDDIP, '= "branches"', '= "students"', OF_LOSS),
    ("okddip's temperature is 4", OKDDIP, "logits\")] = 3.0", "logits\")] = 4.0", OF_LOSS),
    ("okddip's divergences count half", OKDDIP, "ramp-up\")] = 1.0", "ramp-up\")] = 0.5", OF_LOSS),
    ("okddip ramps up in 40 epochs", OKDDIP, "= 80.0", "= 40.0", OF_LOSS),
    ("okddip uses cross-entropy", OKDDIP, '= "KL"', '= "CE"', OF_LOSS),
    ("okddip's attention is a quarter as wide as a feature", OKDDIP, "= 8,", "= 4,", OF_LOSS),
    ("okddip detaches its targets", OKDDIP, "] = False", "] = True", OF_LOSS),
    ("the sentence on okddip names another length", "DiversePeers.method", "length 80", "length 60", WORDS),
    # other losses
    ("kd of classification is at T 1", "KD.task_settings", '"T": 4.0', '"T": 1.0', OF_LOSS),
    ("afdcd without a dataset has CamVid's weight", "DenseContrast.__init__", "= 4e-5", "= 8e-6", OF_LOSS),
    ("dkd weighs the others with 6", "DecoupledKD.__init__", "= 8.0", "= 6.0", OF_LOSS),
    ("crd keeps less of its memories", "ContrastiveRepresentation.__init__", "= 0.5", "= 0.25", OF_LOSS),
    ("the sentence on crd names other negatives", "ContrastiveRepresentation.method", "K 16384", "K 4096",
     WORDS),
    ("gdd's weight is DeepLab's", "GenerativeDenoise.published_weight", "145", "175", OF_LOSS),
    ("the weight of a loss is left out of its printed defaults", "common_options", '"published"',
     'written(WEIGHT.default)', TABLE),
    ("printed defaults are cut to whole numbers", "catalogue:_row", "written(spec.default)",
     "written(int(spec.default) if isinstance(spec.default, float) else spec.default)", TABLE),
    # datasets
    ("camvid reconstructs with Cityscapes' weight", "PRESETS", '"lambda_fd": 8e-6', '"lambda_fd": 2e-6',
     OF_DATASET),
    ("camvid contrasts with Cityscapes' weight", "PRESETS", '"lambda_ctr": 1e-2', '"lambda_ctr": 5e-3',
     OF_DATASET),
    ("camvid pools before the contrast", "PRESETS", '"pool": 0, "fit": "cut"', '"pool": 4, "fit": "cut"',
     OF_DATASET),
    ("camvid refuses maps that patches do not tile", "PRESETS", '"pool": 0, "fit": "cut"',
     '"pool": 0, "fit": "exact"', OF_DATASET),
    ("cirkd on VOC has the weights of the others", "PRESETS",
     '{"lambda_pixel": 0.01, "lambda_region": 0.01}', "_MEMORY", OF_DATASET),
    ("cirkd has VOC's weights on every dataset", "_MEMORY", '"lambda_pixel": 0.1', '"lambda_pixel": 0.01',
     OF_DATASET),
    ("kd beside afdcd counts whole on ADE20K", "PRESETS",
     '"lambda_ctr": 4e-2, "pool": 4, "fit": "exact", "kd": 0.5',
     '"lambda_ctr": 4e-2, "pool": 4, "fit": "exact"', OF_DATASET),
    ("dkd on ImageNet warms up for 20 epochs", "PRESETS", ', "warmup": 1.0', "", OF_DATASET),
    ("dafl on CIFAR-10 has the weights of CIFAR-100", "PRESETS", '"oh": 0.05, "ie": 5.0',
     '"oh": 0.5, "ie": 20.0', OF_DATASET),
    ("a preset is not looked up by its dataset", "preset_options", "PRESETS.get(preset or",
     'PRESETS.get("camvid" and', OF_DATASET),
    # the optimizer
    ("SGD's momentum is 0.95", "RateOptions.momentum", "option(0.9", "option(0.95", OPTIMIZER),
    ("SGD's rate is 0.01", "OPTIMIZERS", "lr=0.02", "lr=0.01", OPTIMIZER),
    ("AdamW's rate is 0.001", "OPTIMIZERS", "lr=2e-4", "lr=1e-3", OPTIMIZER),
    ("SGD's weight decay is 5e-4", "OPTIMIZERS", "weight_decay=1e-4", "weight_decay=5e-4", OPTIMIZER),
    ("AdamW's weight decay is 0.05", "OPTIMIZERS", "weight_decay=0.01", "weight_decay=0.05", OPTIMIZER),
    ("AdamW's second moment forgets faster", "make_optimizer", "**{name: getattr(options, name) for",
     '**({"betas": (0.9, 0.99)} if kind.torch_name == "AdamW" else {}), **{name: getattr(options, name) for',
     OPTIMIZER),
    ("AdamW decays by torch's default", "make_optimizer", "weight_decay=options.decay,",
     '**({} if kind.torch_name == "AdamW" else {"weight_decay": options.decay}),', OPTIMIZER),
    ("a decay of 0 counts as none given", "RateOptions.decay", "if self.weight_decay is None else",
     "if not self.weight_decay else", OPTIMIZER),
    ("SGD is dampened", "make_optimizer", "**{name: getattr(options, name) for",
     '**({"dampening": 0.1} if kind.torch_name == "SGD" else {}), **{name: getattr(options, name) for',
     OPTIMIZER),
    ("the rate falls with power 1", "RateOptions", "poly_power: float = option(\n        0.9,",
     "poly_power: float = option(\n        1.0,", OPTIMIZER),
    ("the second drop comes at 0.7", "RateOptions", "(0.625, 0.75, 0.875)", "(0.625, 0.7, 0.875)", OPTIMIZER),
    ("a drop is to a fifth", "RateOptions", "lr_drop: float = option(0.1,", "lr_drop: float = option(0.2,",
     OPTIMIZER),
    ("only the first group follows the rate", "set_lr", 'in optimizer.param_groups',
     'in optimizer.param_groups[:1]', OPTIMIZER),
    # kdtrain and its help
    ("a run has 80000 steps", "LengthOptions", "option(40_000,", "option(80_000,", TRAIN),
    ("the help says 20000 steps", "LengthOptions", "option(40_000,", 'option(40_000, said="20000",', TRAIN),
    ("a batch has 8 samples", "LengthOptions", "option(16,", "option(8,", TRAIN),
    ("the help says that a batch has 8 samples", "LengthOptions", "option(16,",
     'option(16, said="8",', TRAIN),
    ("the help names another momentum", "RateOptions", "option(0.9, legal", 'option(0.9, said="0.95", legal',
     TRAIN),
    ("the help names another rate of AdamW", "RateOptions", "_each(lambda kind: kind.lr)",
     '"0.02 for sgd, 0.002 for adamw"', TRAIN),
    ("the help names another decay of SGD", "RateOptions", "_each(lambda kind: kind.weight_decay)",
     '"0.0005 for sgd, 0.01 for adamw"', TRAIN),
    ("the help names another power", "RateOptions", '0.9, help="poly',
     '0.9, said="1.0", help="poly', TRAIN),
    ("the help names other milestones", "RateOptions", "        (0.625, 0.75, 0.875),\n",
     '        (0.625, 0.75, 0.875),\n        said="0.5,0.75,0.875",\n', TRAIN),
    ("the help says nothing of a default that is 0", "help_text",
     "one.default is None or", "not one.default or", TRAIN),
    ("the help writes numbers of a list without commas", "spelled", '",".join', '" ".join', TRAIN),
    ("a run is cosine", "RateOptions", '"poly", help=', '"cosine", help=', TRAIN),
    ("a run warms up for 100 steps", "RateOptions", "0, help=\"A linear", "100, help=\"A linear", TRAIN),
    ("a run is AdamW's", "RateOptions", 'option("sgd",', 'option("adamw",', TRAIN),
    ("a run is nesterov's without a word", "RateOptions", "nesterov: bool = option(False,",
     "nesterov: bool = option(True,", TRAIN),
    ("a gradient is clipped without a word", "RateOptions", "clip: float | None = option(\n        None,",
     "clip: float | None = option(\n        10.0,", TRAIN),
    ("a checkpoint is written every 10000 steps", "FolderOptions", "1_000,", "10_000,", TRAIN),
    ("the student is r50", "StudentOptions", '"r18",\n        help', '"r50",\n        help', TRAIN),
    ("the seed is 1", "TrainConfig", "seed: int = option(0,", "seed: int = option(1,", TRAIN),
    ("the help says that a run computes in bf16", "MachineOptions", 'option("no",',
     'option("no", said="bf16",', TRAIN),
    ("the help says that nothing is logged", "FolderOptions", '"tensorboard",\n',
     '"tensorboard", said="none",\n', TRAIN),
    ("the help of threads says 4", "MachineOptions", '1,\n        help="Threads',
     '1,\n        said="4",\n        help="Threads', TRAIN),
    ("a chain distils with dkd", "_chain", 'given.get("loss", "kd")', 'given.get("loss", "dkd")',
     CHAINED),
    ("the runs of a chain begin with link", "_chain", '"run", "chain"', '"run", "link"',
     CHAINED),
    ("the help says that a chain distils with nothing", "cli/training/chain:chain", "[kd]", "[none]", CHAIN),
    ("the help says that a chain stores 4 views", "cli/training/chain:chain", "kind.views_said",
     "'crops:4'", CHAIN),
    # kdcache build and its help
    ("a cache for segmentation has 4 views", "tasks/segmentation:KIND", "crops:8", "crops:4", BUILD),
    ("a cache for classification has 4 views", "tasks/classification:KIND", "crops:8", "crops:4", BUILD),
    ("the help says that a cache has 4 views", "cli/kdcache:build", "kind.views_said", "'crops:4'", BUILD),
    ("a cache keeps the neck", "tasks/segmentation:KIND", '"stage4"', '"neck"', BUILD),
    ("the help says that a classifier's cache keeps stage4", "cli/kdcache:build",
     "', '.join(kind.default_taps)", "', '.join(kind.default_taps).replace('embedding', 'stage4')", BUILD),
    ("the help names the taps of the first task alone", "per_task", "for name in others if",
     "for name in others[1:] if", BUILD),
    ("the help says that a forward takes 16 images", "cli/kdcache:build", 'help="Images per forward',
     'default=16, help="Images per forward', BUILD),
    ("a forward of a small build takes 16 images", "USUAL_BATCH", "= 8", "= 16",
     "tests/cache/build/test_kept_forward.py::test_few_rows_make_no_trial"),
    ("4 GiB in flight are 8", "BuildOptions", "4 * GIB", "8 * GIB", BUILD),
    ("the help says 2G in flight", "cli/kdcache:build", "default=f\"{DEFAULTS['memory_bytes'] // GIB}G\"",
     'default="2G"', BUILD),
    ("an array shard has 64 MiB", "MAX_SHARD_BYTES", "256 << 20", "64 << 20", BUILD),
    ("targets are written as webdataset", "_fresh", "else DEFAULT_FORMAT", 'else "webdataset"', BUILT),
    ("a cache is in webdataset and its help says so", "DEFAULT_FORMAT", '"zarr"', '"webdataset"', BUILD),
    ("the help says that targets are webdataset", "cli/kdcache:build", "[default: {DEFAULT_FORMAT}]",
     "[default: webdataset]", BUILD),
    ("a new cache is computed in bf16", "chosen_precision", "amp or", '"bf16" or', BUILT),
    ("the teacher runs over the validation split", "cli/kdcache:build", 'default=DEFAULTS["split"]',
     'default="val"', BUILD),
    ("a build is of the validation split", "BuildOptions", 'split: str = "train"',
     'split: str = "val"', BUILD),
    # the other commands, documents
    ("eval judges on test", "eval_command", 'default="val"', 'default="test"', JUDGE),
    ("eval's help says test", "eval_command", "[val]", "[test]", JUDGE),
    ("eval decodes with 4 threads", "eval_command", '"threads": MachineOptions.threads',
     '"threads": 4', JUDGE),
    ("verify compares 4 rows", "look:verify", "default=8", "default=4", LOOK),
    ("taps lists 21 classes", "look:taps", "else 19", "else 21", LOOK),
    ("listed taps have stride 16", "network_for_listing", "or rules.default_stride", "or 16",
     "tests/cli/test_help_defaults.py::test_a_network_without_a_stated_stride_has_the_8_that_the_help_names"),
    ("segmentation networks have stride 16", "tasks/segmentation:KIND", "default_stride=8",
     "default_stride=16",
     "tests/cli/test_help_defaults.py::test_a_network_without_a_stated_stride_has_the_8_that_the_help_names"),
    ("CIFAR is padded by 2", "ArraySource", '"pad=4,flip"', '"pad=2,flip"', DOCUMENT),
    ("a random region is at least a quarter", "recipe:_read", "return 0.08", "return 0.25", DOCUMENT),
    ("a segmentation crop is scaled up to 1.5", "tasks/segmentation:KIND",
     'default="scale=0.5x2', 'default="scale=0.5x1.5', DOCUMENT),
    ("an image is judged on 0.9 of its side", "EVAL_SHARE", "0.875", "0.9", DOCUMENT),
    ("calibration has 10 bins", "ECE_BINS", "15", "10", DOCUMENT),
    ("one checkpoint is kept", "KEPT", "2", "1", DOCUMENT),
    ("samples mix within 256", "MIN_WINDOW_SAMPLES", "1024", "256", DOCUMENT),
    ("a fifth of the rows is held back", "HELD_OUT", "10  #", "5  #", DOCUMENT),
]  # fmt: skip
