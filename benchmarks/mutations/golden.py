"""The stored vectors themselves: a file that goes missing, an adapter that compares less than the file holds.

Adapters are tests; what is changed here are the files of tests/golden and the precision of their comparison.
"""

EVERY_FILE = (
    "tests/losses/test_golden.py::"
    "test_every_adapter_has_its_file_of_golden_vectors_and_every_file_its_adapter"
)


def case(name: str, number: int, dtype: str = "float64") -> str:
    test = "test_values_and_gradients_are_those_of_the_published_code"
    return f"tests/losses/test_golden.py::{test}[golden-{name}-c{number}-{dtype}]"


MUTANTS = [
    (f"the stored vectors of {name} are lost", f"tests/golden/{name}.npz", "", "", EVERY_FILE)
    for name in (
        "classification/dkd",
        "classification/okddip",
        "detection/pkd_mmrazor",
        "segmentation/afdcd",
        "segmentation/at",
        "segmentation/skds_holistic",
    )
] + [
    (
        "the critic's stored weights are lost",
        "tests/golden/segmentation/skds_holistic_weights.npz",
        "",
        "",
        case("segmentation/skds_holistic", 2),
    ),
    (
        "dkd counts the true class twice in its total",
        "DecoupledKD.forward",
        "temperature=self.T), self.alpha)",
        "temperature=self.T), 2 * self.alpha)",
        "tests/losses/test_golden_adapters.py::"
        "test_dkd_is_compared_before_its_warm_up_and_the_total_after_it[torch.float64]",
    ),
    (
        "afdcd's objective weighs an auxiliary head that the student does not have",
        "supervised/segmentation:Supervised.forward",
        "return main",
        "return 1.4 * main",
        "tests/losses/test_golden_adapters.py::"
        "test_the_objective_of_afdcd_without_an_auxiliary_head_lacks_its_loss_and_its_gradient[torch.float64]",
    ),
    (
        "the critic sees the image after the posteriors",
        "with_image",
        "(resized.to(logits_BKhw.dtype), logits_BKhw.softmax(1))",
        "(logits_BKhw.softmax(1), resized.to(logits_BKhw.dtype))",
        "tests/losses/dense/test_skds_conditional.py",
    ),
    (
        "the image is laid over the scores without aligned corners",
        "with_image",
        "align_corners=True",
        "align_corners=False",
        "tests/losses/dense/test_skds_conditional.py",
    ),
    (
        "the critic's attention mixes the wrong way round",
        "SelfAttention.forward",
        "@ share_BNN.transpose(1, 2)",
        "@ share_BNN",
        "tests/losses/dense/test_skds_conditional.py",
    ),
    (
        "the critic divides by the singular value of the step before",
        "SpectralConv.forward",
        "(u @ flat @ v)",
        "(self.v @ flat.T @ flat @ v).sqrt() * 1.01",
        "tests/losses/dense/test_skds_conditional.py",
    ),
]
