"""Steps of other forms (networks in turn, generated images), and what decides the rate and the length of a
run. Each change would move other weights, or at another rate, than the method or the user says."""

IN_TURN = "tests/trainer/steps/test_in_turn.py"
GENERATOR = "tests/trainer/steps/test_generator.py"
SCHEDULE = "tests/trainer/steps/test_schedule.py"
CONFIG = "tests/trainer/test_config.py"
THIRD_TASK = "tests/test_third_task.py::test_losses_read_the_number_itself"
TURN = f"{IN_TURN}::test_step_n_moves_network_n_modulo_their_number_and_no_other"
OWN = f"{GENERATOR}::test_the_generators_gradient_is_of_its_own_terms_alone"
MOVED = f"{GENERATOR}::test_student_and_generator_move_and_the_teacher_does_not"
HOLDS = f"{GENERATOR}::test_each_optimizer_holds_its_own_weights"
WEIGHTED = f"{GENERATOR}::test_weight_and_schedule_of_the_method_hold_for_both_sums"
WARM = f"{SCHEDULE}::test_warmup_applies_to_every_schedule"
DROPS = f"{SCHEDULE}::test_multistep_drops_where_the_published_runs_do"
ROUNDING = f"{SCHEDULE}::test_a_milestone_that_falls_on_a_step_belongs_to_it_despite_rounding"
DUE = f"{SCHEDULE}::test_due_each_n_steps_and_always_at_the_end"
IMPOSSIBLE = f"{CONFIG}::test_each_impossible_option_is_named_with_its_remedy"
EPOCHS = f"{CONFIG}::test_epochs_become_the_fewest_steps_that_see_every_sample"

MUTANTS = [
    # ---- in turn
    ("the first network learns in every step", "InTurnStepper.step", "step % len(self.optimizers)", "0",
     TURN),
    ("every network learns from a turn", "InTurnStepper.step",
     "self.learner = self.peers.learner = step", "self.learner = step", TURN),
    ("learned parts beside networks in turn never learn", "InTurnStepper.__init__",
     "if next(distiller.losses.parameters(), None) is not None:", "if False:",
     f"{IN_TURN}::test_learned_parts_of_a_loss_beside_networks_in_turn_are_refused"),
    ("the last network never learns", "InTurnStepper.make_optimizers",
     "for peer in self.peers.networks\n", "for peer in self.peers.networks[:-1]\n", TURN),
    ("networks in turn are moved together", "make_stepper", 'if parts.step_form == "in_turn" else Stepper',
     "if False else Stepper", TURN),
    # ---- generators
    ("the student's loss teaches the generator", "Inventor.forward", "images_BCHW.detach()", "images_BCHW",
     OWN),
    ("the generator learns nothing from the teacher", "Inventor.forward",
     "teacher.read_normalised(images_BCHW,", "teacher.read_normalised(images_BCHW.detach(),", OWN),
    ("the teacher of a generator follows its images", "Inventor.__init__",
     "teacher.eval().requires_grad_(False)", "teacher.train().requires_grad_(False)", MOVED),
    ("the teacher of a generator is among what is saved", "Inventor.__init__", "self._beside = [teacher",
     "self.teacher, self._beside = teacher, [teacher",
     f"{MOVED} {GENERATOR}::test_killed_and_resumed_ends_bit_identical"),
    ("the student's optimizer moves the generator too", "GeneratorStepper.make_optimizers",
     "self.rivals.freeze()  # the student", "pass  # the student", HOLDS),
    ("the generator stays frozen", "GeneratorStepper.make_optimizers", "self.rivals.freeze(False)", "pass",
     f"{MOVED} {OWN}"),
    ("the generator does not move", "GeneratorStepper._move_rivals",
     "self.rivals.step(step, self.accelerator, skips=self._watch.skips)", "False", MOVED),
    ("further terms beside a generator are passed over", "inventing_term", "len(labels) > 1 or", "",
     f"{GENERATOR}::test_further_terms_beside_it_are_refused"),
    ("weight and schedules of a generator's method are ignored", "Inventor.forward",
     "* value.weight * factor", "* value.weight", WEIGHTED),
    ("a generator's own factors are ignored", "Inventor.forward", "* value.weight * factor", "* factor",
     OWN),
    # ---- what losses read
    ("a measured number is read as a class", "_as_read",
     "truth if truth.is_floating_point() else truth.long()", "truth.long()", THIRD_TASK),
    ("classes of pixels are read as bytes", "_as_read",
     "truth if truth.is_floating_point() else truth.long()", "truth",
     "tests/trainer/test_loop.py::test_every_step_is_reported_once_and_the_end_is_validated"),
    # ---- rates
    ("warm-up begins with nothing and ends late", "run_lr", "(step + 1) / warmup", "step / warmup", WARM),
    ("warm-up goes on past the base rate", "run_lr", "min(1.0, (step + 1) / warmup)", "(step + 1) / warmup",
     WARM),
    ("a milestone that falls on a step comes a step late", "options.py:_multistep", " - _ROUNDING", "",
     ROUNDING),
    ("a drop comes a step late", "options.py:_multistep", "step >= mark", "step - 1 >= mark", DROPS),
    ("all drops are one", "options.py:_multistep", "sum(step", "any(step", DROPS),
    ("a cosine goes through two halves", "options.py:_cosine", "math.pi * step", "2 * math.pi * step",
     f"{SCHEDULE}::test_cosine_halves_in_the_middle_and_stays_above_zero"),
    ("poly falls with power 1 whatever is asked", "options.py:_poly", "** options.poly_power", "** 1",
     f"{SCHEDULE}::test_rate_falls_from_base_towards_zero_with_the_published_power"),
    ("a schedule is that of all its steps but one", "options.py:_poly", "step / total",
     "step / (total - 1)", f"{SCHEDULE}::test_rate_falls_from_base_towards_zero_with_the_published_power"),
    ("something due is done a step late", "due", "done % every == 0", "done % every == 1", DUE),
    # ---- options
    ("the last samples of --epochs are not seen", "LengthOptions.with_steps",
     "-int(-self.epochs * num_samples // self.batch_size)",
     "int(self.epochs * num_samples // self.batch_size)", EPOCHS),
    ("--steps is ignored where the data say how many samples there are", "LengthOptions.with_steps",
     "if self.epochs is None:", "if False:", EPOCHS),
    ("a batch that --accumulate cannot split is taken", "LengthOptions.check",
     "if self.batch_size % self.accumulate:", "if False:", IMPOSSIBLE),
    ("--steps and --epochs together: one of them is ignored", "check_one_length",
     'if "steps" in given and "epochs" in given:', "if False:",
     "tests/trainer/folder/test_run_folder.py::test_two_lengths_for_one_run_are_refused"),
    ("percent of a run are shares", "steps/options.py:_share", "float(text[:-1]) / 100", "float(text[:-1])",
     f"{CONFIG}::test_milestones_are_shares_or_percent"),
    ("an option that the schedule does not read is passed over", "RateOptions._check_unread",
     "owner != self.lr_schedule and", "False and", IMPOSSIBLE),
    ("milestones need not rise", "RateOptions._check_milestones", "any(a >= b for", "any(a > b for",
     IMPOSSIBLE),
    ("--nesterov with AdamW is passed over", "RateOptions.check",
     '"nesterov" not in OPTIMIZERS[self.optimizer].reads or', "", IMPOSSIBLE),
]  # fmt: skip
