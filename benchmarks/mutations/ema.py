"""The averaged student: its decay, its batch statistics, when a step moves it, that it is what is kept."""

EMA = "tests/trainer/steps/test_ema.py"
CLOSED = f"{EMA}::test_the_average_is_the_closed_form_of_all_weights_since_the_start"
STATISTICS = f"{EMA}::test_batch_statistics_are_those_of_the_last_update_and_not_averaged"
RUN = f"{EMA}::test_a_run_averages_once_per_step_after_the_student_has_moved_and_keeps_the_average"
COPIED = "            kept.copy_(buffer)"

MUTANTS = [
    ("the decay is inverted", "Ema.update", "1.0 - self.decay", "self.decay", CLOSED),
    ("the average never moves", "Ema.update", "1.0 - self.decay", "0.0", CLOSED),
    ("the average is the student", "Ema.update", "1.0 - self.decay", "1.0", CLOSED),
    ("the decay is 0.999 whatever --ema says", "Ema.__init__", "self.decay = decay", "self.decay = 0.999",
     f"{EMA}::test_one_update_keeps_the_decay_of_the_old_and_takes_the_rest_of_the_new"),
    ("--ema is another decay in a run", "Stepper.__init__",
     "Ema(distiller.student, config.ema)", "Ema(distiller.student, config.ema**2)", RUN),
    ("batch statistics stay those of the start", "Ema.update", COPIED, "            pass", STATISTICS),
    ("batch statistics are averaged too", "Ema.update", COPIED,
     "            kept.lerp_(buffer, 0.5) if kept.is_floating_point() else kept.copy_(buffer)", STATISTICS),
    ("the average shares its weights with the student", "Ema.__init__",
     "copy.deepcopy(network).requires_grad_(False).eval()", "network",
     f"{EMA}::test_the_average_is_a_copy_that_no_gradient_and_no_batch_moves"),
    ("the average normalises with the statistics of the batch", "Ema.__init__",
     ".requires_grad_(False).eval()", ".requires_grad_(False)",
     f"{EMA}::test_the_average_is_a_copy_that_no_gradient_and_no_batch_moves"),
    ("the student is pulled to the average", "Ema.update",
     "torch._foreach_lerp_(averages, [p.data for p in network.parameters()], 1.0 - self.decay)",
     "torch._foreach_lerp_([p.data for p in network.parameters()], averages, self.decay)",
     f"{EMA}::test_an_update_leaves_the_student_as_it_is"),
    ("a resumed run begins a new average", "Ema.load_state_dict",
     "self.network.load_state_dict(state)", "pass",
     f"{EMA}::test_a_saved_average_comes_back_with_its_statistics"),
    ("a run does not average", "Stepper.step", "self.ema.update(self.module.student)", "pass", RUN),
    ("a run averages in every micro batch", "Stepper.step",
     "                skipped = self._move(step, micro)\n",
     "                skipped = self._move(step, micro)\n"
     "                if self.ema is not None:\n"
     "                    self.ema.update(self.module.student)\n", RUN),
    ("what is judged and exported is not the average", "Stepper.student",
     "self.ema.network if self.ema is not None else self.module.student", "self.module.student", RUN),
    ("the average is not restored from a checkpoint", "Stepper.load_states",
     'self.ema.load_state_dict(states["ema"])', "pass",
     "tests/trainer/test_loop.py::test_killed_inside_an_accumulation_and_resumed_ends_bit_identical"),
]  # fmt: skip
