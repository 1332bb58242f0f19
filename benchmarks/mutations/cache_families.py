"""Families of networks: sizes and blocks of the papers, strides that are reached, taps where they belong."""

CIFAR, BLOCKS = "tests/cache/networks/test_cifar_resnets.py", "tests/cache/networks/test_cifar_blocks.py"
SEGMENTATION = "tests/cache/networks/test_segmentation.py"
CLASSIFIERS = "tests/cache/networks/test_classifiers.py"
SHORTCUT = f"{BLOCKS}::test_the_parameter_free_shortcut_takes_every_second_cell_between_new_channels_of_zeros"
WIDE = f"{BLOCKS}::test_a_wide_block_projects_its_activated_input_and_adds_a_plain_one_as_it_is"
SIZES = f"{CIFAR}::test_networks_have_the_published_number_of_weights"
REFUSED = f"{SEGMENTATION}::test_a_network_that_cannot_be_built_says_why"
TAPS = f"{SEGMENTATION}::test_taps_read_with_hooks_are_the_returned_ones"

MUTANTS = [
    # ---- CIFAR
    ("new channels of option A stand behind the old ones", "OptionA.forward",
     "(0, 0, 0, 0, self.pad, self.pad)", "(0, 0, 0, 0, 0, 2 * self.pad)", SHORTCUT),
    ("a stage is read before its last ReLU", "BasicBlock.forward", "return F.relu(sum_BCHW), sum_BCHW",
     "return sum_BCHW, sum_BCHW", f"{CIFAR}::test_a_stage_is_the_relu_of_its_preactivation"),
    ("CIFAR ResNets have two thirds of their blocks", "_resnet", "(int(depth) - 2) // 6",
     "(int(depth) - 2) // 9", SIZES),
    ("the stem of a four times wider ResNet is wider", "_resnet", "(32, 64, 128, 256)", "(64, 64, 128, 256)",
     SIZES),
    ("wide networks have a block too few in each stage", "WideResNet.__init__", "(depth - 4) // 6",
     "(depth - 4) // 6 - 1", SIZES),
    ("a wide block projects its input before the activation", "WideBlock.forward",
     "self.convShortcut(active_BCHW)", "self.convShortcut(sum_BCHW)", WIDE),
    ("convolutions start with the spread of their inputs", "_initialise", 'mode="fan_out"', 'mode="fan_in"',
     f"{CIFAR}::test_convolutions_start_with_the_spread_of_their_outputs"),
    ("CIFAR networks are normalised as ImageNet's", "assemble_cifar",
     "mean=IMAGENET_MEAN if option_a else CIFAR_MEAN", "mean=IMAGENET_MEAN",
     f"{CIFAR}::test_pixels_are_normalised_as_the_papers_do"),
    # ---- segmentation
    ("a small DeepLabV3 has the width of a large one", "WIDTHS", '"deeplabv3": (128, 256)',
     '"deeplabv3": (256, 256)',
     f"{SEGMENTATION}::test_stride_and_channels_are_the_papers[deeplabv3:r18-512-128-True]"),
    ("an output stride that a head does not have is taken", "assemble_segmentation",
     "output_stride not in STRIDES[name.family]", "False",
     REFUSED),
    ("stages of a segmentation network are one too early", "Segmenter.forward", "maps[stage + 2]",
     "maps[stage + 1]", TAPS),
    ("the neck is the last stage", "Segmenter.forward", '"neck": neck', '"neck": maps[-1]', TAPS),
    ("an encoder that swallows its stride is taken", "check_dilation", "if reached != output_stride:",
     "if False:", f"{SEGMENTATION}::test_an_encoder_that_swallows_its_stride_is_refused"),
    ("networks born in TensorFlow get pixels of ImageNet's statistics", "find_encoder",
     "mean=(0.5, 0.5, 0.5) if same else mean", "mean=mean",
     f"{SEGMENTATION}::test_the_tensorflow_form_of_mobilenet_pads_on_one_side_and_scales_to_plus_minus_one"),
    ("torchvision's networks are built at a stride they do not have", "assemble_torchvision",
     "if output_stride != OUTPUT_STRIDE:", "if False:", REFUSED),
    # ---- classifiers
    ("the embedding of a classifier is its logits", "Classifier.forward",
     "embedding_BD = self.network.forward_head(final_BCHW, pre_logits=True)",
     "embedding_BD = self.network.forward_head(final_BCHW)",
     f"{CLASSIFIERS}::test_the_classifier_weight_turns_embedding_into_logits"),
    ("a factory is never told how many classes there are", "assemble_custom", "num_classes or None", "None",
     "tests/cache/networks/test_factory.py"),
    ("a factory's own padding is left out", "assemble_custom",
     'int(getattr(model, "pad_multiple", PAD_MULTIPLE if padded else 1))', "PAD_MULTIPLE if padded else 1",
     "tests/cache/networks/test_factory.py::test_a_factory_names_its_taps_and_its_padding"),
]  # fmt: skip
