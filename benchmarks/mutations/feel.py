"""How it feels: a typo that waits for torch, a shortcut that lies, a line that no program can read."""

DECLARED = "tests/losses/plan/test_declared.py"
START = "tests/cli/test_startup.py"
WRONG = f"{START}::test_what_cannot_work_is_said_before_anything_heavy_is_loaded"
CONFIG = "tests/cli/test_config_file.py"
SCRIPTS = "tests/cli/test_for_scripts.py"
SHOWN = "tests/cli/test_train_display.py"

MUTANTS = [
    ("a loss inherits no options", "declared:_line", "yield from _line(owner, base.id)", "pass", DECLARED),
    ("what the source aliases is not read", "declared:declared_by", 'one.value("aliases")', "{}", DECLARED),
    ("options are not checked early", "written:check_expression", "check_preset(term, where)",
     "continue", DECLARED),
    ("losses are asked after the cache is looked for", "start.py:started", "check_names(options, home)",
     "pass", WRONG),
    ("data are looked for before networks are named", "start.py:check_names",
     "    check_expression(options.loss)\n",
     "    check_data(options.data or 'demo')\n    check_expression(options.loss)\n", WRONG),
    ("torch comes before a cache's name is looked for", "caches/look:show", "find_cache(_one_cache",
     "(__import__('torch') and find_cache)(_one_cache", WRONG),
    ("what is remembered is of any generation", "served_losses:_path", "cache.generation.seal, ", "",
     f"{START}::test_a_cache_that_grew_is_looked_at_again"),
    ("the file's word is the last", "start.py:with_file",
     "for name, value in read.items() if name not in out}, **given}",
     "for name, value in given.items()}, **read}", CONFIG),
    ("a file may name code", "start.py:_require_trust_in", "    require_trust(named, where=str(path))\n", "",
     CONFIG),
    ("a run's name is taken over", "config:read_options_file", '"run", ', "", CONFIG),
    ("steps that epochs gave are taken over", "config:read_options_file", 'if "epochs" in values', "if False",
     CONFIG),
    ("NaN is no JSON", "terminal:_finite", "value if math.isfinite(value) else None", "value", SCRIPTS),
    ("--json says lines for people too", "cli/kdcache:build", "quiet or as_json or not first_rank",
     "quiet or not first_rank", SCRIPTS),
    ("the last steps are not said", "TrainDisplay._finished",
     "if self._unsaid is not None:", "if False:", SHOWN),
    ("a line of progress does not fit", "TrainDisplay._stepped", "said=short_state(event)",
     "said=state_text(event)", SHOWN),
]  # fmt: skip
