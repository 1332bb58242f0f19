"""The learning rate as a pure function of the step, and when something is due.

A prepared scheduler would advance once per process and would have to be saved; a function needs neither.
"""


def lr_at(step: int, *, base: float, total: int, power: float, warmup: int = 0) -> float:
    """base * (1 - step/total)**power, times a linear ramp over the first `warmup` steps.

    `step` counts from 0, so the first step runs at `base` (without warmup) and the last one is still above 0.
    The ramp multiplies the polynomial, so the rate after it does not depend on its length. Source of the
    polynomial: DeepLab (Chen et al. 2016, section 4.1), with power 0.9.
    """
    assert 0 <= step < total, f"step {step} outside 0..{total - 1}"
    ramp = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return float(base * ramp * (1.0 - step / total) ** power)


def due(done: int, every: int | None, total: int) -> bool:
    """Whether something done each `every` steps, and at the end, is due after `done` finished steps."""
    return done == total or (every is not None and done % every == 0)
