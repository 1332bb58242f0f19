"""A student that leaves: answers of another network, of other pixels or under other names would go out as its
own."""

DEPLOYED = "tests/cache/networks/test_deployed.py::test_maps_of_any_size_are_those_of_the_network_enlarged"
PREDICT = "tests/trainer/export/test_predict.py"
MASKS = f"{PREDICT}::test_masks_counted_by_hand_give_the_scores_of_eval"
CLASSES = f"{PREDICT}::test_classes_counted_by_hand_give_the_scores_of_eval"
BOXES = f"{PREDICT}::test_boxes_judged_by_pycocotools_give_the_scores_of_eval"
OVER = f"{PREDICT}::test_nothing_is_written_over_a_folder_that_holds_something"
GONE = f"{PREDICT}::test_images_that_are_not_there_or_none_are_said"
EXPORT = "tests/trainer/export/test_export.py"
WRONG = f"{EXPORT}::test_an_export_that_says_something_else_is_not_there"
TIMM = f"{EXPORT}::test_timm_opens_its_folder_with_the_classes_and_the_normalisation_in_it"
SMP = f"{EXPORT}::test_smp_opens_its_folder_with_the_classes_and_the_normalisation_in_it"
DECODE = "tests/trainer/export/test_decode_boxes.py::test_boxes_scores_and_classes_are_those_of_the_judge"
RECORD = "tests/trainer/export/test_record.py"
CLI = "tests/cli/test_leaving.py"

MUTANTS = [
    ("padding of a graph is black", "Deployed._padded", "(0, right, 0, bottom)) + self.fill_311",
     "(0, right, 0, bottom)) * 0 + pad(images_BCHW, (0, right, 0, bottom))", DEPLOYED),
    ("cells that see only padding stay", "Deployed._cut", "stride == 0 or", "stride or", DEPLOYED),
    ("graphs normalise pixels of 0 to 1", "Deployed._normalised", "images_BCHW / 255", "images_BCHW",
     DEPLOYED),
    ("maps are enlarged pixel by pixel", "Deployed.forward", "align_corners=True", "align_corners=False",
     DEPLOYED),
    ("masks hold the class after their own", "export/predict:palette_png", "Image.fromarray(classes_HW)",
     "Image.fromarray(classes_HW + 1)", MASKS),
    ("probabilities are logits", "classification:Judge.told", ".float().softmax(1)", ".float()", CLASSES),
    ("boxes stay on the canvas", "detection:Judge.told", "image.size, image.geometry",
     "(image.geometry.crop_h, image.geometry.crop_w), image.geometry", BOXES),
    ("images of boxes are numbered from 0", "detection:Judge.told_files",
     '{"id": number, "file_name": image.file', '{"id": number - 1, "file_name": image.file', BOXES),
    ("a folder that holds something is written into", "check_new", "not any(place.iterdir())", "True", OVER),
    ("a draft stays when something fails", "new_folder", "shutil.rmtree(draft, ignore_errors=True)", "pass",
     GONE),
    ("an export that differs is written", "export/export:_finished", "not difference.small", "False", WRONG),
    ("a difference that is no number is small", "Difference.small", "self.relative <= BOUND",
     "not self.relative > BOUND", "tests/trainer/export/test_compare.py"),
    ("timm's folder lacks the run's mean", "write_timm", "            **_normalisation(network),\n", "",
     TIMM),
    ("smp's folder has no class names", "write_smp", '"label_names": list(class_names), ', "", SMP),
    ("smp's logits stay small", "write_smp", '"upsampling": network.output_stride', '"upsampling": 1', SMP),
    ("boxes of other classes are suppressed too", "decode_boxes:_kept",
     "(classes_N[rest] == classes_N[best]) & ", "", DECODE),
    ("centerness counts nothing in numpy", "decode_boxes:_of_level",
     'grid["score"] == "sigmoid*ctr"', "False", DECODE),
    ("a changed file is opened", "export/record:_check_file", "there != digest", "False",
     f"{RECORD}::test_changed_files_are_refused_before_anything_reads_them"),
    ("sizes that a graph does not take are asked", "Exported._check_size", "or size == fixed", "or True",
     f"{RECORD}::test_a_size_that_it_does_not_take_is_said"),
    ("a stranger's pt2 is opened", "open_exported", "record.form in RUNS_CODE", "False",
     f"{RECORD}::test_a_strangers_pt2_is_opened_with_consent_alone"),
    ("an export is judged with a run beside it", "judge_export", "if run is not None:", "if False:",
     f"{CLI}::test_what_an_export_cannot_be_asked_is_said"),
]  # fmt: skip
