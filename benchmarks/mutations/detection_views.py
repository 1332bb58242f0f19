"""Objects in boxes on their way to a batch: boxes beside pixels, views on a canvas, sources, empty images.

A slipped box teaches a detector to look beside what it should find, and no loss would tell.
"""

BOXES, FIT = "tests/cache/test_boxes.py", "tests/cache/views/test_fit.py"
TASK, BUILD = "tests/cache/tasks/test_detection.py", "tests/cache/build/test_build_objects.py"
CONTRACT, COCO = "tests/cache/sources/test_box_contract.py", "tests/cache/sources/test_coco.py"
VOC, YOLO = "tests/cache/sources/test_voc_boxes.py", "tests/cache/sources/test_yolo.py"
FOLLOW = f"{BOXES}::test_a_box_follows_resize_flip_and_corner"
RULE = f"{BOXES}::test_an_object_is_what_shows_a_tenth_and_two_pixels_of_itself"
KEPT = f"{BOXES}::test_what_is_kept_is_cut_to_the_canvas_and_names_its_box"
WHOLE = f"{FIT}::test_the_whole_image_lies_at_the_top_left_as_large_as_it_fits"
SETS = f"{FIT}::test_a_whole_image_and_its_mirror_image_are_two_views"
SEEN = f"{FIT}::test_what_is_seen_of_an_object_is_part_of_what_a_view_is"
MOVED = f"{TASK}::test_a_view_shows_what_is_no_crowd_with_its_class"
PADDED = f"{TASK}::test_rows_are_padded_to_the_one_with_the_most_objects"
COUNTS = f"{TASK}::test_the_index_counts_boxes_that_training_may_use"
LEFT_OUT = f"{CONTRACT}::test_images_without_a_usable_box_are_left_out_of_training_alone"
FLAT = f"{CONTRACT}::test_a_box_without_area_is_counted_and_does_not_keep_its_image"
OWN = f"{CONTRACT}::test_a_sample_is_another_one_when_a_box_of_its_own_changes"
WRITTEN = f"{CONTRACT}::test_each_image_has_its_objects_as_they_are_written"
NO_BOX = f"{CONTRACT}::test_what_is_no_box_is_named_with_its_file"
REFUSED = f"{COCO}::test_a_json_that_cannot_be_is_refused_when_it_is_opened"
GAPS = f"{COCO}::test_ids_with_gaps_are_numbered_in_the_order_of_the_list_and_come_back"
LINES = f"{YOLO}::test_a_line_is_a_box_in_pixels_of_its_image"
NAMES = f"{YOLO}::test_names_are_read_in_every_form_that_is_in_use"
TRAINED = f"{BUILD}::test_training_leaves_empty_images_of_a_cache_out_unless_it_is_asked_for"
EDITED = f"{BUILD}::test_one_edited_box_appends_one_row_and_asks_the_teacher_nothing"

MUTANTS = [
    # ---- boxes beside pixels
    ("boxes stay where they are under a flip", "cache/boxes:follow", "if g.flip:", "if False:", FOLLOW),
    ("left and right of a flipped box change places", "cache/boxes:follow", "x_M2[:, ::-1]", "x_M2", FOLLOW),
    ("a flip turns about the canvas and not about the image", "cache/boxes:follow",
     "x_M2 = g.resize_w - ", "x_M2 = g.crop_w - ", FOLLOW),
    ("boxes do not follow the corner of a crop", "cache/boxes:follow", "x_M2 - g.crop_x", "x_M2", FOLLOW),
    ("heights of boxes are scaled as widths", "cache/boxes:follow", "g.resize_h / size[0]",
     "g.resize_w / size[1]", FOLLOW),
    ("boxes come back a corner beside", "follow_back", "boxes_M4[:, 0::2] + g.crop_x",
     "boxes_M4[:, 0::2] - g.crop_x", FOLLOW),
    ("an object of which a twentieth is seen is one", "MIN_SHARE", "0.1", "0.05", RULE),
    ("an object of one pixel is one", "MIN_SIDE_PX", "2.0", "1.0", RULE),
    ("what lies outside of the image counts as hidden", "cache/boxes:seen", "clip(boxes_M4, size)",
     "boxes_M4", RULE),
    ("boxes reach beyond the canvas", "cache/boxes:seen", "Seen(shown_M4[kept_M]", "Seen(moved_M4[kept_M]",
     KEPT),
    ("a box half a pixel inside its image is used", "MIN_STORED_PX", "1.0", "0.4",
     f"{BOXES}::test_a_box_needs_a_pixel_of_both_sides_inside_its_image"),
    # ---- views on a canvas
    ("images are cut to fill the canvas", "fit_factor", "min(", "max(", WHOLE),
    ("the mirror image is not mirrored", "fit_view", "_FLIP if mirror else ()", "()", WHOLE),
    ("an image lies in the middle of its canvas", "fit_view", '("crop", 0, 0, *canvas)',
     '("crop", (size[0] - canvas[0]) // 2, 0, *canvas)', WHOLE),
    ("crops are scaled as if every image were of the canvas", "_relative", "fit[0] * factor, fit[1] * factor",
     "fit[0], fit[1]", f"{FIT}::test_crops_at_the_fitting_scale_are_the_whole_image"),
    ("--mirror of whole images is forgotten", "parse_views", "(kind, MIRROR_OF[kind]) if mirror else (kind,)",
     "(kind,)", SETS),
    ("the mirror view shows the image itself", "ViewSet.view", "mirror=self.kind == MIRROR_OF[FIT]",
     "mirror=False", SETS),
    ("another rule of what is seen leaves the digest of a view", "ViewSet.digest",
     "[FIT_VERSION, MIN_SHARE, MIN_SIDE_PX]", "[FIT_VERSION]", SEEN),
    ("digests of views without objects change with the rule", "ViewSet.digest", "if fits else",
     "if True else", SEEN),
    ("a task stores kinds of views that it does not have", "parse_views", "if kind not in rules.kinds:",
     "if False:", f"{FIT}::test_a_kind_that_a_task_does_not_have_is_refused_in_its_words"),
    ("a recipe without a scale draws another one than the whole image", "detection:KIND",
     'always={"fit": (1.0, 1.0)}', 'always={"fit": (0.5, 1.0)}',
     f"{TASK}::test_the_default_is_the_whole_image_and_its_mirror_image"),
    ("canvases of any size are taken", "TaskKind.check_input", "side % step", "False",
     f"{TASK}::test_both_sides_of_a_canvas_are_multiples_of_32"),
    # ---- the truth of a batch
    ("crowds are objects to learn", "detection:Objects.moved", "value[value[:, CROWD] == 0]", "value", MOVED),
    ("classes stay in the order of boxes that are gone", "detection:Objects.moved",
     "single_M8[shown.kept_N, CLASS : CLASS + 1]", "single_M8[: len(shown.boxes_M4), CLASS : CLASS + 1]",
     MOVED),
    ("what pads a batch is of the first class", "detection:PADDING", "-1", "0", PADDED),
    ("every batch has a column that nobody fills", "detection:Objects.collate",
     "most = max(", "most = 1 + max(", PADDED),
    ("crowds count as objects of an image", "detection:Objects.column_values",
     "& (objects_M8[:, CROWD] == 0)", "", COUNTS),
    ("boxes are stored rounded", "encode_objects", "x[:, :4].tolist()", "x[:, :4].round(2).tolist()",
     f"{TASK}::test_what_is_stored_comes_back_to_the_last_bit"),
    ("the size of the canvas stands for that of the image", "reader/rows:_seen",
     "samples.size(row.sample)", "(row.geometry.crop_h, row.geometry.crop_w)",
     "tests/cache/reader/test_rows.py::test_a_truth_is_moved_as_the_view_of_its_own_sample_says"),
    # ---- sources
    ("boxes of a json end at their width", "Coco.objects", "x.boxes_A4[rows, :2] + x.boxes_A4[rows, 2:]",
     "x.boxes_A4[rows, 2:]", WRITTEN),
    ("annotations of one image are those of the next", "Coco._rows", "int(self._index.first[place]), ",
     "int(self._index.first[place]) + 1, ", WRITTEN),
    ("classes of a json are numbered by their ids", "coco_json.py:_columns", "class_of.get(one, UNKNOWN)",
     "sorted(class_of).index(one)", GAPS),
    ("results name an image by its place", "Coco.image_id", "self._index.image_ids[self._places[index]]",
     "self._places[index]", GAPS),
    ("two images of one name are taken", "coco_json.py:_images", "if twice := _twice(values):", "if False:",
     REFUSED),
    ("an annotation of no image is taken", "coco_json.py:_annotations",
     "if not _is_int(image) or image not in image_of:", "if False:", REFUSED),
    ("splits may number other classes", "Coco._check_classes", "if names != self.class_names:", "if False:",
     f"{COCO}::test_splits_of_other_classes_are_refused_naming_both_lists"),
    ("torn columns of a json are believed", "_read_kept", "return columns if whole else None",
     "return columns", f"{COCO}::test_columns_of_another_number_of_annotations_are_not_believed"),
    ("touching a json makes every sample another one", "Coco.stamp",
     "stamp_of_files([self.image_path(index)])", "stamp_of_files(self.files(index))",
     f"{COCO}::test_a_json_that_was_touched_or_laid_out_anew_changes_no_sample"),
    ("an edited box is not noticed", "Coco.stamp", "(x.ids, x.boxes_A4, x.classes, x.areas, x.crowds)",
     "(x.ids,)", OWN),
    ("a negative side is taken", "check_box", "if min(width, height) < 0:", "if False:", NO_BOX),
    ("an image of another size than its annotation is taken", "BoxSource._agreed",
     "claimed is None or claimed == size", "True", f"{CONTRACT}::test_an_image_of_another_size_is_named"),
    ("boxes without area are not counted", "BoxSource.notes", "if flat else []", "if False else []", FLAT),
    ("a bad annotation leaves its image out in silence", "BoxSource.usable_boxes", "np.ones(", "np.zeros(",
     NO_BOX),
    ("VOC's corners are taken as edges", "VocBoxes.objects", "shift = 1.0 if", "shift = 0.0 if",
     f"{VOC}::test_corners_count_from_one_where_the_database_is_vocs"),
    ("difficult objects are learnt", "VocBoxes.objects", '== "1"', '== "2"',
     f"{VOC}::test_difficult_objects_are_crowds"),
    ("a polygon is read as a box", "Yolo._read_line", "if len(numbers) == 4:", "if True:", LINES),
    ("a box begins at its centre", "Yolo._read_line", "x - width / 2, y - height / 2", "x, y", LINES),
    ("shares of the width are taken of the height", "Yolo.objects", "[width, height, width, height]",
     "[height, width, height, width]", LINES),
    ("numbered names may skip a number", "names_in_yaml", "int(entry[1]) != len(names)", "False",
     f"{YOLO}::test_names_in_another_form_are_refused_saying_which_are_read"),
    ("quotes are part of a class's name", "_unquoted", "text[1:-1] if", "text if", NAMES),
    # ---- images from which nothing can be learnt
    ("empty images are trained on", "StoredSamples.without", "if keep_empty or not self._truth.counts:",
     "if True:", TRAINED),
    ("--keep-empty does not reach the data", "run_source:_open_data", "keep_empty=options.keep_empty)\n",
     "keep_empty=False)\n", f"{BUILD}::test_training_on_the_data_themselves_leaves_them_out_likewise"),
    ("a cache forgets that it keeps empty images", "build/plan:_source_of",
     "(old is not None and keeps_empty(old))", "False",
     f"{BUILD}::test_a_cache_that_keeps_them_goes_on_keeping_them"),
    ("images are left out under another's key", "Coco.keep", "self.keys[index] for index in indices",
     "self.keys[index] for index in range(len(indices))",
     LEFT_OUT),
]  # fmt: skip
