"""Numbers: bounds of options, steps that are not finite, one mean for any split of a batch. Each change would
end in a traceback, in a student of NaN, or in another step than the one that was asked for."""

OPTIONS = "tests/cli/test_numbers.py"
FAULTS = "tests/trainer/test_not_finite.py"
SPLIT = "tests/trainer/steps/test_split.py"
FORMS = "tests/trainer/steps/test_generator.py"
ANSWERS = "tests/trainer/judge/test_not_finite_answers.py"
ONCE = "tests/cli/test_ranks_say_once.py"

MUTANTS = [
    # ---- bounds
    ("an infinite rate is above 0", "positive", "0 < value <= most", "0 < value", OPTIONS),
    ("an infinite weight decay is legal", "not_negative", "0 <= value <= most", "0 <= value", OPTIONS),
    (
        "epochs give more steps than a run has",
        "LengthOptions.with_steps",
        "steps > MOST_STEPS",
        "False",
        OPTIONS,
    ),
    (
        "a crop has any size",
        "views/crop:_side",
        "int(word) if int(word) <= MOST_SIDE else 0",
        "int(word)",
        "tests/cache/views/test_crop.py",
    ),
    (
        "a chain starts with a number that no link can have",
        "_chain",
        'TrainConfig(**{"run": "chain"',
        'dict(**{"run": "chain"',
        OPTIONS,
    ),
    ("six digits of a number reach a link", "spelled", "or float(short) == value", "or True", OPTIONS),
    # ---- finite
    (
        "an infinite gradient is not seen",
        "Watch.see_gradient",
        "if not self._scaled",
        "if self._scaled",
        FAULTS,
    ),
    ("infinite weights are not seen", "Watch.see_weights", "self._weights =", "_ =", FAULTS),
    ("a step that is left out keeps its buffers", "Watch.undo", "buffer.copy_(kept)", "pass", FAULTS),
    (
        "a gradient is left over from a step that is left out",
        "Stepper._move",
        "self.wrapped.zero_grad()",
        "pass",
        FAULTS,
    ),
    ("the average learns from a step that is left out", "Stepper.step", "and not skipped", "", FAULTS),
    (
        "a bad loss alone is not left out",
        "Watch.must_skip",
        "torch.maximum(self._gradient, bad_terms)",
        "self._gradient",
        FAULTS,
    ),
    ("a rival moves on NaN", "Rivals.step", "if skips and not _finite(player.weights)", "if False", FAULTS),
    ("a resumed run counts from 0", "Run.__init__", 'start.progress.get("skipped", 0)', "0", FAULTS),
    ("a score of NaN is the best", "Run._judge", "not math.isnan(metrics.score) and", "", FAULTS),
    (
        "all samples are named for one bad micro batch",
        "Reporter._keys",
        "of_micro[~good]",
        "of_micro",
        FAULTS,
    ),
    # ---- one mean
    ("each micro batch has its own mean", "draw_step", "total.clamp(min=1) / parts", "None", SPLIT),
    ("the mean is a sum", "draw_step", "total.clamp(min=1) / parts", "total.clamp(min=1)", SPLIT),
    ("ignored pixels count", "counted_pixels", "(labels_BHW != ignore)", "(labels_BHW >= 0)", SPLIT),
    ("a step without labels divides by 0", "draw_step", "total.clamp(min=1)", "total", SPLIT),
    (
        "batches wait where nothing is counted",
        "draw_step",
        "parts == 1 or not losses.counts_labels",
        "parts == 1",
        SPLIT,
    ),
    # ---- answers
    (
        "answers that are not finite are judged",
        "judge.py:_figures",
        "if of_network else metrics",
        "if False else metrics",
        ANSWERS,
    ),
    ("an image counts once a value", "_not_finite", ".flatten(1).all(1)", ".flatten(1).all()", ANSWERS),
    (
        "infinity is an answer",
        "_not_finite",
        "answers[tap].isfinite()",
        "answers[tap].isnan().logical_not()",
        ANSWERS,
    ),
    ("a teacher may answer NaN", "_refuse_teacher", "if not_finite:", "if False:", ANSWERS),
    (
        "ranks keep what they saw",
        "judge.py:_over_ranks",
        "(reduce(table), reduce(bad))",
        "(reduce(table), bad)",
        ANSWERS,
    ),
    ("a run does not say why there are no figures", "Run._judge", "note=self.no_figures", 'note=""', ANSWERS),
    ("NaN is shown as a figure", "metrics.py:shown", "if math.isnan(value):", "if False:", ANSWERS),
    ("every rank says what all of them say", "cli/shared.py:_end", "and beside_another()", "and False", ONCE),
    ("every rank says click's refusals", "visible_usage", "if beside_another():", "if False:", ONCE),
]
