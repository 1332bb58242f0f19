"""Recipes of published scripts: numbers that slip, options of the user that lose, differences not said."""

NUMBERS = "tests/losses/plan/test_recipes.py"
RUNS = "tests/trainer/steps/test_recipe.py"
STORY = (
    "tests/cli/test_kdtrain.py::test_a_recipe_gives_a_run_what_was_not_written_and_every_difference_is_said"
)
SHOWN = "tests/losses/plan/test_catalogue.py"

MUTANTS = [
    ("CIRKD's rate slips", "_CIRKD", '"lr": 0.02', '"lr": 0.01', NUMBERS),
    ("SKDS decays as CIRKD does", "_SKDS", "5e-4", "1e-4", NUMBERS),
    ("CamVid's crop is VOC's", "_CROPS", "(360, 360)", "(512, 512)", NUMBERS),
    ("COCO-Stuff is trained half as long", "_CROPS", "80_000", "40_000", NUMBERS),
    ("the second drop of 240 epochs comes early", "_CIFAR_240", "0.75", "0.7", NUMBERS),
    ("a data set's own numbers lose", "recipes:published", "{**recipe.options, **recipe.datasets[on]}",
     "{**recipe.datasets[on], **recipe.options}", NUMBERS),
    ("the data set of the run wins over a named one", "recipes:published", "chosen if at else dataset",
     "dataset or chosen if at else dataset", NUMBERS),
    ("what was typed loses", "with_recipe", "if name not in out}, **given}", "}}", RUNS),
    ("a length of one's own leaves the recipe's", "with_recipe", "out |= set(_LENGTHS)", "pass", RUNS),
    ("another optimizer keeps the recipe's rate", "with_recipe", "out |= set(_OF_OPTIMIZER)", "pass", RUNS),
    ("another schedule keeps the recipe's drops", "with_recipe", "out |= set(_OF_SCHEDULE)", "pass", RUNS),
    ("a recipe chooses the views of a cache", "with_recipe", "set() if fresh else", "set() if True else",
     RUNS),
    ("a length in other words counts as published", "recipe:_said", "if name in _LENGTHS", "if False", RUNS),
    ("differences are not said", "trainer/steps/recipe:recipe_lines", "    if other:", "    if False:", RUNS),
    ("what is unlike the script is not said", "trainer/steps/recipe:recipe_lines", "if recipe.recipe.unlike:",
     "if False:", RUNS),
    ("a recipe of another method passes in silence", "trainer/steps/recipe:recipe_lines",
     'set(re.findall(r"[\\w-]+", loss))', "set(recipe.recipe.losses)", RUNS),
    ("--recipe changes nothing", "folder/start:started", "if config.recipe:", "if False:", STORY),
    ("a run does not say its recipe", "_data_notes", "if not config.recipe:", "if True:", STORY),
    ("methods of one task name recipes of all", "methods:methods", "names & set(recipe.losses)", "True",
     SHOWN),
    ("a method shows no recipe", "training/methods:_show", 'tuple(recipe_lines(e.name)) or "none"', '"none"',
     SHOWN),
]  # fmt: skip
