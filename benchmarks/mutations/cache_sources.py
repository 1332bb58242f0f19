"""Sources: labels that become the right train ids, splits that share nothing, files that run no code."""

DATASETS, CONTRACT = "tests/cache/sources/test_datasets.py", "tests/cache/sources/test_contract.py"
LABELS, LISTING = "tests/cache/sources/test_labels.py", "tests/cache/sources/test_listing.py"
ARRAYS, CIFAR = "tests/cache/sources/test_arrays.py", "tests/cache/sources/test_cifar.py"
CLASSES, FOLDERS = "tests/cache/sources/test_class_contract.py", "tests/cache/sources/test_imagefolder.py"
TRAIN_IDS = f"{CONTRACT}::test_labels_become_grey_pngs_of_train_ids"
PIXELS = f"{CLASSES}::test_arrays_become_pngs_of_the_very_same_pixels"
TENTH = f"{ARRAYS}::test_without_rows_of_its_own_val_is_the_last_tenth_of_train"

MUTANTS = [
    # ---- class maps
    ("ADE20K's classes are shifted by one", "Ade20k.class_map_of", "train_id + 1: train_id",
     "train_id: train_id", TRAIN_IDS),
    ("CamVid's void is a class of its own", "CamVid.class_map_of", "VOID: IGNORE, ", "VOID: VOID, ",
     TRAIN_IDS),
    ("Cityscapes' ignored ids are roads", "Cityscapes.class_map_of", "train_ids.get(label_id, IGNORE)",
     "train_ids.get(label_id, 0)", TRAIN_IDS),
    ("COCO-Stuff numbers its classes with gaps", "CocoStuff.class_map_of",
     "{value: train_id for train_id, value in enumerate(used)}", "{value: value for value in used}",
     f"{DATASETS}::test_coco_stuff_numbers_the_annotated_classes_without_gaps"),
    ("a label value outside the class map is taken", "ClassMap.require", "if not inside.all():", "if False:",
     f"{CONTRACT}::test_a_label_value_outside_the_class_map_is_named"),
    ("grey labels of four bits are spread over all values", "_SPREAD", ", 4: 17", "",
     f"{LABELS}::test_grey_of_any_depth_keeps_its_class_ids"),
    ("a flipped byte in a PNG goes unseen", "open_intact", "unchecked.verify()", "pass",
     f"{LABELS}::test_a_flipped_byte_in_a_png_is_named"),
    ("a label that is right already is written anew", "train_id_png",
     "if label.grey8 and class_map.keeps(present):", "if False:",
     f"{LABELS}::test_only_plain_8_bit_grey_keeps_its_bytes"),
    # ---- which samples
    ("two files with one key become one sample", "find_images", "if key in path_of:", "if False:",
     f"{LISTING}::test_two_files_with_one_key_are_both_named"),
    ("a key that is listed twice is taken", "listed_keys", "if key in first_line:", "if False:",
     f"{LISTING}::test_a_key_listed_twice_names_both_lines"),
    ("VOC trains on its own list where the augmented one is", "Voc.trees",
     "if augmented and (inside / AUGMENTED).is_dir():", "if False:",
     f"{DATASETS}::test_voc_takes_the_augmented_list_for_train_only"),
    ("one row in five is held out for validation", "HELD_OUT", "10", "5", TENTH),
    ("rows held out for validation are trained on", "ArraySource._rows_of",
     'rows.cut(0, kept) if split == TRAIN', "rows.cut(0, len(rows)) if split == TRAIN",
     f"{CLASSES}::test_train_and_val_share_no_sample"),
    ("keys of held-out rows start from zero", "Rows.key", "self.first + row", "row", TENTH),
    ("the class of a folder depends on the split", "ImageFolder._classes",
     "_folders(self.root / SPLITS[0]) or here", "here",
     f"{FOLDERS}::test_classes_are_the_folders_of_train_in_every_split"),
    # ---- pixels and code
    ("rows and columns of CIFAR change places", "Cifar._batch", "transpose(0, 2, 3, 1)",
     "transpose(0, 3, 2, 1)",
     PIXELS),
    ("an npz of objects is unpickled", "unpack.py:_array", "dtype.hasobject or claimed != there",
     "claimed != there", f"{ARRAYS}::test_an_npz_of_objects_is_refused_without_running_it"),
    ("a pickle of CIFAR may name any function", "_Unpickler.find_class",
     "raise pickle.UnpicklingError(f\"it names '{module}.{name}', which is no array of numbers\")",
     "return super().find_class(module, name)",
     f"{CIFAR}::test_a_pickle_that_would_run_code_is_refused_and_runs_nothing"),
    ("an idx file that is too long is cut", "read_idx", "if len(raw) != wanted:", "if len(raw) < wanted:",
     f"{ARRAYS}::test_an_idx_file_that_is_not_what_it_says_is_named"),
    ("the folder of a dataset is part of its identity", "FileSource.describe", '"split": self.split,',
     '"split": str(self.root),', f"{CONTRACT}::test_identity_names_classes_and_map_but_no_folder"),
]  # fmt: skip
