"""What is trained: peers, branches, exits, how they begin and what is exported of them. Each change would
keep another network than the one that was trained and judged, or train what nobody asked."""

FORMS = "tests/trainer/students/test_forms.py"
HEADS = "tests/trainer/students/test_exit_heads.py"
EXPORT = "tests/trainer/students/test_export.py"
STUDENT = "tests/trainer/students/test_student.py"
ASSEMBLED = "tests/trainer/test_assemble_forms.py"
SIZES = f"{FORMS}::test_every_tap_has_the_announced_size_and_the_deployed_one_gives_the_logits"
WHOLE = f"{FORMS}::test_trunk_and_deployed_branch_become_a_network_of_the_students_name"
ASKED = f"{FORMS}::test_who_is_not_asked_does_not_run"
KILLED = f"{FORMS}::test_a_kill_anywhere_in_an_export_leaves_the_old_pair_or_the_new_one"
STRANGE = f"{FORMS}::test_exits_of_another_student_are_never_joined_to_this_one"
GATE = f"{HEADS}::test_a_gate_only_dampens"

MUTANTS = [
    # ---- branches and peers
    ("the first branch is exported whichever is deployed", "Branches.deployed",
     "self.branches[self.index]", "self.branches[0]", WHOLE),
    ("the exported network keeps the trunk of the start", "Branches.deployed",
     "own[name].copy_(parts[part][inner])", "part == TRUNK or own[name].copy_(parts[part][inner])", WHOLE),
    ("scaled branches send their whole gradient into the trunk", "Branches._shared_out",
     "gradient / len(self.branches)", "gradient",
     f"{FORMS}::test_scaled_branches_send_a_part_of_their_gradient_into_the_trunk"),
    ("every branch runs, also one that nothing reads", "Branches.forward",
     "sorted({self._owner(tap) for tap in taps if tap != TRUNK})", "range(len(self.branches))", ASKED),
    ("every peer runs, also one that nothing reads", "Peers.forward", "if wanted:", "if True:",
     ASKED),
    ("peers whose turn it is not learn too", "Peers.forward", "self.learner not in (None, index)", "False",
     f"{FORMS}::test_peers_whose_turn_it_is_not_are_constants"),
    ("the first peer is deployed whichever was asked for", "Peers.deployed",
     "self._network(self.index)", "self._network(0)", SIZES),
    ("peers begin at the same weights", "Peers.__init__", "[make() for _ in range(count)]",
     "[__import__('copy').deepcopy(first) for first in [make()] for _ in range(count)]",
     f"{FORMS}::test_branches_and_peers_begin_at_different_weights"),
    # ---- exits
    ("an exit may sit on the last stage", "exits.py:_stages", "len(names) <= count", "len(names) < count",
     f"{FORMS}::test_more_exits_than_earlier_stages_are_refused"),
    ("exit 0 is the last one", "load_exit", "1 <= number <= count", "number <= count",
     f"{FORMS}::test_an_exit_that_does_not_exist_is_refused"),
    ("a loaded exit normalises with the statistics of the batch", "load_exit",
     "OneExit(student, number).eval()", "OneExit(student, number)",
     f"{FORMS}::test_an_exit_is_loaded_from_its_run"),
    ("a loaded exit has first weights", "load_exit", "    student.exits.load_state_dict(state)\n", "",
     f"{FORMS}::test_an_exit_is_loaded_from_its_run"),
    ("exits are joined to whatever student lies beside them", "read_exits",
     "described.student != student", "False", STRANGE),
    ("new exits take their names before the student is exported", "exits_beside",
     "    yield\n    replace(weights, run_dir / WEIGHTS)\n",
     "    replace(weights, run_dir / WEIGHTS)\n    yield\n", KILLED),
    ("exits that wait are not found after a kill", "read_exits",
     '(run_dir / CARD, run_dir / f"{CARD}{NEXT}")', "(run_dir / CARD,)", KILLED),
    ("a bottleneck keeps the size of its stage", "bottleneck_exit",
     "_conv_unit(narrow, narrow, factor)", "_conv_unit(narrow, narrow, 1)", HEADS),
    ("a bottleneck is half as wide as the embedding", "bottleneck_exit", "width // 4", "width // 2", HEADS),
    ("an attention exit skips the width of the stages between", "attention_exit",
     "for stage in stages[:-1]] + [width]", "for stage in stages[:1]] + [width] * (len(stages) - 1)", HEADS),
    ("a gate adds instead of dampening", "Gate.forward", "map_BCHW * seen.sigmoid()",
     "map_BCHW + seen.sigmoid()", GATE),
    ("a gate sees nothing", "Gate.forward", "seen.sigmoid()", "(seen * 0).sigmoid()", GATE),
    ("an exit's embedding is the largest value of its map", "Exit.forward", ".mean((2, 3))",
     ".amax((2, 3))", HEADS),
    # ---- beginning and end
    ("--init begins several students with one", "take_over",
     "isinstance(student, SeveralStudents) and", "False and",
     f"{ASSEMBLED}::test_init_is_refused_where_several_students_begin_apart"),
    ("--init leaves the learned parts of losses", "take_over", "_copy(parts, losses.state_dict())",
     "_copy({}, losses.state_dict())",
     f"{ASSEMBLED}::test_init_begins_with_the_student_and_the_learned_parts_of_a_run"),
    ("--init with a run of which nothing fits trains from first weights", "take_over",
     "if all(name.startswith(PIXELS) for name in", "if not all(name for name in",
     f"{ASSEMBLED}::test_init_says_what_was_not_taken_and_refuses_a_run_of_which_nothing_fits"),
    ("a student that a run gives downloads a backbone first", "build_student",
     "== CUSTOM or options.init is not None", "== CUSTOM", STUDENT),
    ("--weights of a student is ignored", "build_student", "options.weights or", "None or", STUDENT),
    ("the card of a run names another size than it was trained at", "exporter",
     "crop=run_source.crop", "crop=(224, 224)", EXPORT),
    ("the last student takes the place of the best one", "exporter", "if network is None else network_of",
     "if False else network_of", EXPORT),
    ("a run without a better student loses its figures", "exporter", "metrics=dict(metrics)",
     "metrics=dict(metrics if network is not None else {})", EXPORT),
]  # fmt: skip
