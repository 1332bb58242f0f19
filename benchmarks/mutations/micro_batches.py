"""What a loss says of its micro batches: a wrong word would promise that --accumulate changes nothing."""

TEST = "tests/losses/test_micro_batches.py"
DIFFER = f"{TEST}::test_the_losses_that_differ_are_those_that_say_so"
SHOWN = f"{TEST}::test_the_command_shows_it_where_there_is_something_to_say"
FORWARD = "supervised/segmentation:Supervised.forward"

MUTANTS = [
    ("masked generation claims to be the same", "MaskedGeneration",
     '    per_micro_batch = "masks are drawn"\n', "", DIFFER),
    ("a loss says less than its docstring", "Dist", 'per_micro_batch = "the correlations of',
     'per_micro_batch = "those of', f"{TEST}::test_the_docstring_says_the_same"),
    ("skds' pixel term becomes a mean over the images and still excepts itself", "PixelWise.forward",
     'form="skds"', 'form="cirkd"', DIFFER),
    ("kd sums over the images in every form", "KD.forward",
     'form = "cirkd" if', 'form = "skds" if True or',
     f"{TEST}::test_a_loss_that_names_one_form_is_the_same_in_its_others"),
    ("the auxiliary head is divided by its own micro batch's pixels", FORWARD,
     'inputs.student["aux"], inputs.truth, divisor=divisor', 'inputs.student["aux"], inputs.truth', DIFFER),
    ("the main head is divided by its own micro batch's pixels", FORWARD,
     'inputs.student["logits"], inputs.truth, divisor=divisor', 'inputs.student["logits"], inputs.truth',
     DIFFER),
    ("every loss says that it is per micro batch", "LossTerm", 'per_micro_batch: ClassVar[str] = ""',
     'per_micro_batch: ClassVar[str] = "x"', DIFFER),
    ("an entry leaves it out", "entry", "loss_class.per_micro_batch,", '"",', SHOWN),
    ("the command leaves it out", "_show", '        ("per micro batch", e.per_micro_batch),\n', "", SHOWN),
    ("the balance of dafl is that of each image", "balance_loss",
     ".logsumexp(0) - math.log(teacher_BK.shape[0])\n    return (log_mean_K.exp() * log_mean_K).sum()",
     "\n    return (log_mean_K.exp() * log_mean_K).sum(1).mean()",
     f"{TEST}::test_the_balance_of_invented_images_is_that_of_each_micro_batch"),
]  # fmt: skip
