"""Networks: pixels normalised, maps cut, weights told apart, teachers found; ensembles and branches."""

NETWORK, WEIGHTS = "tests/cache/networks/test_network.py", "tests/cache/networks/test_weights.py"
RUN, RESOLVE = "tests/cache/networks/test_run_folder.py", "tests/cache/networks/test_resolve.py"
ENSEMBLE, NAMES = "tests/cache/networks/test_ensemble.py", "tests/cache/networks/test_names.py"
BRANCHES = "tests/cache/networks/test_branches.py"
DIGEST = f"{WEIGHTS}::test_a_digest_tells_values_and_names_of_weights_apart"
PADDED = f"{NETWORK}::test_padding_is_right_and_bottom_with_the_fill_colour"
SPECS = f"{NETWORK}::test_tap_specs_are_the_shapes_of_the_full_pass"

MUTANTS = [
    # ---- a network
    ("pixels are divided by 256", "Normalise.forward", "/ 255", "/ 256",
     f"{NETWORK}::test_pixels_are_normalised_by_the_networks_own_mean_and_std"),
    ("images are padded left and top", "pad_to_multiple", "[:, :height, :width]", "[:, -height:, -width:]",
     PADDED),
    ("padding is black", "pad_to_multiple", "torch.tensor(FILL_RGB,", "torch.tensor((0, 0, 0),", PADDED),
    ("the last cells of a map are cut off", "Network._cut_tap", "ceil_div(height, stride)",
     "height // stride", SPECS),
    ("a hook stays behind after each pass", "read_places", "hook.remove()", "pass",
     f"{NETWORK}::test_no_hook_stays_behind_when_the_pass_fails"),
    ("a tap that is overwritten later is taken", "read_places",
     "tap in versions and seen[tap]._version != versions[tap]", "False",
     f"{NETWORK}::test_a_place_that_gives_no_map_is_refused"),
    ("a dry run leaves the network in evaluation mode", "_resting", "child.training = training", "pass",
     f"{NETWORK}::test_tap_specs_leave_every_training_mode_and_statistic_alone"),
    ("names of caches of the first task change", "NetworkConfig.to_dict", "{**written(self.task)}",
     '{"task": self.task}', f"{NETWORK}::test_a_configuration_names_every_task_but_the_one_of_before"),
    # ---- weights
    ("the digest of weights sees their names alone", "weights_digest",
     "        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)\n", "", DIGEST),
    ("the digest of weights does not see their names", "weights_digest", "{name} {value.dtype}",
     "{value.dtype}", DIGEST),
    ("a pickle may run its code", "read_tensors", "weights_only=True", "weights_only=False",
     f"{WEIGHTS}::test_a_pickle_with_code_is_refused_and_not_run"),
    ("prefixes of distributed training stay on", "unwrapping.py:PREFIXES", '"module."', '"modules."',
     f"{WEIGHTS}::test_wrappers_and_prefixes_are_peeled"),
    ("statistics in a weights file are forgotten", "fit_weights",
     "if file.mean is not None and file.std is not None:", "if False:",
     f"{WEIGHTS}::test_statistics_in_the_header_replace_the_networks_own"),
    ("missing weights stay random in silence", "_check_fit", "if not (missing or unexpected or misshapen):",
     "if not (unexpected or misshapen):",
     f"{WEIGHTS}::test_a_file_that_lacks_one_weight_is_refused"),
    # ---- runs and teachers
    ("other weights under a run's name are taken", "_settle", "if digest == card.weights_digest:",
     "if student.is_file():", f"{RUN}::test_other_weights_under_a_runs_name_are_refused"),
    ("weights are written over the old ones before the card", "run_card.py:_save",
     "    draft.replace(run_dir / CARD)\n    waiting.replace(run_dir / STUDENT)\n",
     "    waiting.replace(run_dir / STUDENT)\n    draft.replace(run_dir / CARD)\n",
     f"{RUN}::test_a_kill_between_the_renames_leaves_one_whole_network"),
    ("the output stride of a run cannot be overridden", "load_run_network",
     "output_stride or config.output_stride", "config.output_stride",
     f"{RUN}::test_stride_and_taps_of_a_run_can_be_overridden"),
    ("a network is taken before a run of its name", "run_folder", 'if ":" not in name and named.is_dir():',
     "if False:", f"{RESOLVE}::test_a_run_is_taken_before_a_network_of_the_same_name"),
    ("a teacher with an untrained head is taken", "resolve_teacher",
     'if ("logits" in network.taps or network.heads) and not network.trained_head:',
     "if False:",
     f"{RESOLVE}::test_a_backbone_file_does_not_make_a_segmentation_teacher"),
    ("a run for other classes is taken", "resolve.py:_check_classes",
     "num_classes not in (None, card.config.num_classes)", "False",
     f"{RESOLVE}::test_a_run_of_another_number_of_classes_is_refused"),
    ("a name alone is always of the first task", "first_task_with", "return task", "return names[0]",
     f"{NAMES}::test_a_name_alone_is_of_the_first_task_that_has_it"),
    ("a short name of another task's family is taken", "parse_name",
     "if not _has(task, name):", "if False:",
     f"{NAMES}::test_a_network_for_the_other_task_is_refused"),
    # ---- ensembles and branches
    ("the mean of several teachers is their sum", "ensemble.py:_mean", ".mean(0)", ".sum(0)",
     f"{ENSEMBLE}::test_the_mean_is_taken_before_softmax"),
    ("members that nobody asked run too", "Ensemble._gather", "if asked else {}", "if True else {}",
     f"{ENSEMBLE}::test_a_member_that_is_not_asked_does_not_run"),
    ("two teachers share one label", "member_labels", "while label in labels:", "while False:",
     f"{ENSEMBLE}::test_networks_and_runs_of_one_label_are_told_apart"),
    ("members for other classes form an ensemble", "_check_alike",
     "if len(tasks) > 1 or len(classes) > 1:", "if len(tasks) > 1:",
     f"{ENSEMBLE}::test_members_for_other_classes_or_another_task_are_refused"),
    ("all branches are one and the same", "split_last_stage", "_cifar_branch(cifar.fresh())",
     "_cifar_branch(cifar)", f"{BRANCHES}::test_every_branch_starts_anew_and_shares_nothing"),
]  # fmt: skip
