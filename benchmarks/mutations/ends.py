"""Memory that stays, rows that are judged as they lie, and the end of a command's process."""

HEAP, QUITTING = "tests/cache/processes/test_heap.py", "tests/cli/test_quitting.py"
UNPACKED = "tests/trainer/judge/test_unpacked.py"
WHOLE = f"{UNPACKED}::test_only_an_image_that_is_shown_as_it_is_needs_no_pipeline"
SAME = f"{UNPACKED}::test_pixels_truths_and_rows_are_those_of_the_pipeline"
BATCH = "tests/cache/build/test_batch_size.py"

MUTANTS = [
    ("freed memory is given back", "keep_freed", "mallopt(_TRIM_THRESHOLD, _MOST)", "True", HEAP),
    (
        "what a user told the allocator is overruled",
        "keep_freed",
        "any(name in environment for name in _OWN)",
        "False",
        HEAP,
    ),
    (
        "what a user told the allocator by tunables is overruled",
        "keep_freed",
        '"glibc.malloc" in environment.get(_TUNABLES, "")',
        "False",
        HEAP,
    ),
    ("commands give freed memory back", "cli/shared:KdGroup.main", "        keep_freed()\n", "", HEAP),
    ("the status is lost", "as_process", "os._exit(number)", "os._exit(0)", QUITTING),
    (
        "what was promised for the end is left out",
        "quitting:_is_done",
        "        atexit._run_exitfuncs()\n",
        "",
        QUITTING,
    ),
    (
        "files left open lose their last lines",
        "quitting:_is_done",
        "                one.flush()\n",
        "                pass\n",
        QUITTING,
    ),
    (
        "a thread that works is cut off",
        "quitting:_is_done",
        "one is not main and not one.daemon",
        "False",
        QUITTING,
    ),
    (
        "a rank leaves the others",
        "quitting:_watched",
        'os.environ.get("WORLD_SIZE", "1") != "1"',
        "False",
        QUITTING,
    ),
    ("who measures a process misses its end", "quitting:_watched", "measured or bool", "bool", QUITTING),
    ("a flipped row is judged as it lies", "judge/unpacked:_whole", " and not g.flip", "", WHOLE),
    (
        "a moved row is judged as it lies",
        "judge/unpacked:_whole",
        "(g.crop_y, g.crop_x) == (0, 0)",
        "True",
        WHOLE,
    ),
    ("a resized row is judged as it lies", "judge/unpacked:_whole", "== size", "", WHOLE),
    ("the first row speaks for all", "shown_unpacked", "for row in rows", "for row in list(rows)[:1]", WHOLE),
    (
        "rows are judged in the order of the array",
        "unpacked_batch",
        "unpacked_image(row.sample) for row in rows]",
        "unpacked_image(row.sample) for row in sorted(rows)]",
        SAME,
    ),
    ("grey rows keep one channel", "ArraySource.unpacked_image", "3, axis=2", "1, axis=2", SAME),
    (
        "a row's image is its neighbour's",
        "ArraySource.unpacked_image",
        "rows.pixels[row]",
        "rows.pixels[row - 1]",
        SAME,
    ),
]
