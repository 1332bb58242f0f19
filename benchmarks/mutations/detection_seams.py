"""Teachers and weights of other classes, a first look at a teacher, the levels that a loss reads."""

OTHER = "tests/test_detection_other_classes.py::test_"
KEEPS = f"{OTHER}its_features_are_what_a_build_keeps_and_says_why"
STORED = f"{OTHER}its_scores_are_not_stored_for_anyone"
REFUSED = f"{OTHER}a_loss_that_reads_its_scores_is_refused_by_the_first_name_that_differs"
ORDER = f"{OTHER}the_same_classes_in_another_order_are_other_classes"
SAME = f"{OTHER}the_same_classes_are_not_remarked_on"
ALIVE = f"{OTHER}a_live_teacher_of_other_classes_teaches_features_and_no_scores"
NAMELESS = f"{OTHER}names_of_classes_are_no_part_of_a_caches_name"
HUB = "tests/cache/networks/detectors/test_torchvision_detectors.py::test_"
TEACHES = f"{HUB}coco_weights_teach_other_classes_as_what_they_are"
BEGINS = f"{HUB}a_student_of_other_classes_begins_with_coco_weights_by_their_tag"
WHOLE = f"{HUB}weights_of_a_whole_network_are_none_of_an_encoder_and_the_network_is_named"
LOOK = "tests/trainer/judge/test_first_look.py::test_"
KNOWS = f"{LOOK}a_teacher_that_knows_is_told_so_on_32_images_spread_over_the_data"
NOTHING = f"{LOOK}classes_in_another_order_are_a_score_of_nothing_and_named_among_the_causes"
ONCE = f"{LOOK}a_build_says_it_once_and_stores_the_same_bytes"
SEVERAL = f"{LOOK}several_teachers_and_networks_without_boxes_are_not_judged"
LEFT = f"{LOOK}what_is_wrong_with_an_image_is_left_to_the_build"
GROUPS = "tests/cache/build/test_tap_groups.py::test_"
LEVELS = f"{GROUPS}a_loss_that_reads_some_levels_of_a_group_is_given_those"
FEATURES = f"{GROUPS}a_teacher_of_other_classes_gives_its_features"
STORY = "tests/test_detection_story.py::test_"
FOUR = f"{STORY}pkd_stores_the_four_levels_that_it_reads_and_reads_no_more_of_a_cache_that_has_them"
TABLE = "tests/losses/plan/test_catalogue.py"
CHAIN = "tests/cli/test_chain.py::test_images_without_objects_are_kept_by_every_link_and_every_cache"

MUTANTS = [
    # ---- other classes
    ("a teacher of other classes is kept with its scores by default", "default_requests",
     "other.teaches if differ and other is not None else task_of(task).default_taps",
     "task_of(task).default_taps", f"{FEATURES} {KEEPS}"),
    ("scores by class of another list are stored", "say_classes", "    if asked:", "    if False:", STORED),
    ("nobody says why features alone are kept", "make_plan", 'choice = f"{choice}; {said}"', "pass", KEEPS),
    ("classes in another order are the same classes", "spec.py:class_difference", "if a != b",
     "if a not in data", ORDER),
    ("a loss of scores is told to build what is refused then", "_check_targets",
     "    plan.check_classes(run_source.classes(_teacher_config(run_source, teacher)))\n", "", REFUSED),
    ("a live teacher says no classes", "run_source.py:RunSource.classes",
     "theirs = teacher.classes_beside(self.class_names)", "theirs = self.class_names", ALIVE),
    ("a run's classes are not compared", "_from_run",
     "_say_classes(network, card.class_names, classes)", "pass", f"{KEEPS} {ORDER}"),
    ("equal classes are remarked on", "_say_classes", "tuple(names) != tuple(classes.names)", "True", SAME),
    ("names of classes rename a cache", "plan.py:_identity", "network.config.nameless.to_dict()",
     "network.config.to_dict()", NAMELESS),
    ("torchvision's tag is built for the data's classes", "_of_any_classes",
     "return build(num_classes=own.num_classes)", "pass", TEACHES),
    ("COCO's weights are of nobody", "fit_weights", "network.class_names = network.names_in(written)",
     "pass", TEACHES),
    ("the slots between the classes are names too", "torchvision_detectors.py:class_names",
     "tuple(names[slot] for slot in slots)", "tuple(names)", TEACHES),
    # ---- students of other classes
    ("a tag for other classes is refused to students too", "downloads.py:_torchvision",
     " and not (fresh_head and own.head_alone)", "", BEGINS),
    ("networks whose head is no layer take other classes", "downloads.py:_torchvision",
     "(fresh_head and own.head_alone)", "fresh_head", BEGINS),
    ("nobody says that the last layer is new", "fit_weights", "if head & set(given):", "if False:", BEGINS),
    ("an encoder is offered tags of encoders for those of a whole network", "download",
     "    _refuse_whole(name, tag)\n", "", WHOLE),
    # ---- a first look
    ("a teacher is judged on the first images", "first_look.py:spread",
     "np.arange(num) * count // max(1, num)", "np.arange(num)", KNOWS),
    ("a teacher that finds nothing passes", "first_look",
     'f"{said}: {counting.usual_causes}" if metrics.score < NOTHING else said', "said", NOTHING),
    ("what is wrong with an image ends the build's plan", "first_look", "except KdError as error:",
     "except ZeroDivisionError as error:", LEFT),
    ("several teachers are judged as one", "trainer/judge/detection.py:Judge.can_judge",
     'grid is not None and set(_taps(grid)) <= set(getattr(network, "taps", ()))', "grid is not None",
     SEVERAL),
    ("a cache that grows is judged again", "BuildDisplay.planned", "not plan.existed and ", "", ONCE),
    ("a teacher of other classes is judged by the data's", "_first_look",
     "plan.network.config.class_difference(plan.source.class_names)", "False", KEEPS),
    # ---- levels
    ("all levels are stored for a loss that reads four", "BuildOptions.resolved",
     "first_levels(group, need.first)", "tuple(group)", f"{LEVELS} {FOUR}"),
    ("levels of an ensemble are counted over its members", "first_levels",
     "members[:index].count(member)", "index", LEVELS),
    ("all levels are required of a cache", "_needs_of_levels",
     "first_levels(groups.get(need.tap, (need.tap,)), need.first)", "groups.get(need.tap, (need.tap,))",
     FOUR),
    ("pairs are made of levels that nobody read", "shared_levels",
     "if not first or stride in teacher.strides[:first]", "", FOUR),
    ("a group is offered where only some levels lack", "Cache.require", "if kind_of(name) in partly",
     "if False", FOUR),
    # ---- the table of methods, chains
    ("ld is said to work on every detector", "LocalisationDistillation", 'detectors=("gfl",),',
     'detectors=("gfl", "fcos"),', TABLE),
    ("losses of scores are said to take any teacher", "compares_positions", 'not in ("", FPN)',
     'in ("never",)', TABLE),
    ("a chain builds without the images that it trains on", "OF_BUILDING", ', "keep_empty"', "", CHAIN),
]  # fmt: skip
