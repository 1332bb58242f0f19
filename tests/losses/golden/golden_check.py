"""The comparison of an adapter's answers with the values that a case holds."""

import numpy as np
from golden_case import Case, relative_error
from golden_files import ADAPTERS


def check_case(method: str, case: Case) -> None:
    """Every value that the case expects, within its tolerance; fails for one that the adapter leaves out."""
    answers, expected = ADAPTERS[method](case), case.expected()
    left_out = set(expected) - set(answers)
    assert expected and not left_out, f"values that the adapter of {method} does not compute: {left_out}"
    for key, wanted in expected.items():
        value = answers[key].detach().numpy()
        assert value.shape == wanted.shape or value.size == wanted.size == 1, key
        if wanted.size and np.isnan(wanted).all():
            assert np.isnan(value).all(), f"{key} is a number where the published code gives none"
            continue
        error = relative_error(value, wanted)
        assert error <= case.tolerance(key), f"{key} is off by {error:.1e} of its largest value"
