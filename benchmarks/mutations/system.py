"""What the operating system refuses: no damage, three parts, good work kept; maps without descriptors."""

SYSTEM, MAPPED = "tests/cache/files/test_system.py", "tests/cache/stores/test_mapped.py"
OPEN, DOOR = "tests/cache/reader/test_open_files.py", "tests/cli/test_refusals.py"
RUN = "tests/trainer/folder/test_refusals.py"
NO_DAMAGE = f"{DOOR}::test_a_file_that_cannot_be_read_is_no_damage"
READ_ONLY = f"{DOOR}::test_a_cache_that_is_only_read_shows_verifies_draws_and_has_nothing_to_do"

MUTANTS = [
    ("a map is never unmapped", "mapped.py:_Map", "weakref.finalize(self, _libc.munmap, address, num_bytes)",
     "weakref.finalize(self, id, address)", f"{MAPPED}::test_a_view_keeps_the_map_and_the_last_one_ends_it"),
    ("a map can be written", "mapped.py:_Map", "(address, True)", "(address, False)",
     f"{MAPPED}::test_nobody_writes_into_a_map"),
    ("the newest shard goes first", "kept.py:make_room", "next(iter(list(kept)))", "list(kept)[-1]",
     f"{OPEN}::test_the_oldest_goes_first"),
    ("what a library wrapped is not looked for", "system.py:system_error",
     "seen = seen.__cause__ or seen.__context__", "seen = None",
     f"{SYSTEM}::test_what_a_library_wrapped_is_found"),
    ("an error that is expected is wrapped", "system.py:touching", "isinstance(error, (KdError, *passing))",
     "isinstance(error, KdError)", f"{SYSTEM}::test_an_error_that_is_expected_goes_through"),
    ("the number of an error is forgotten", "system.py:refused", "made.errno = error.errno", "pass",
     f"{SYSTEM}::test_every_number_has_three_parts_and_no_repair"),
    ("an older file is written over in place", "system.py:write_whole", "draft.write_bytes(content)",
     "path.write_bytes(content)", f"{SYSTEM}::test_an_older_file_stays_until_the_new_one_is_whole"),
    ("a pipe is replaced by a file", "system.py:write_whole", "path.exists() and not path.is_file()", "False",
     f"{SYSTEM}::test_what_is_no_plain_file_is_written_and_not_replaced"),
    ("an object that cannot be opened is damage", "LocalStore.open_map",
     """raise refused(error, f"'{name}' cannot be read", path) from error""",
     """raise bad_object(f"'{name}' cannot be read", str(path)) from error""", NO_DAMAGE),
    ("a build locks what it may only read", "lock.py:_opened", "if error.errno in READ_ONLY:", "if False:",
     READ_ONLY),
    ("a note that cannot be kept ends a build", "survey.py:_note", "if error.errno not in READ_ONLY | FULL:",
     "if True:", READ_ONLY),
    ("a folder that cannot be listed is empty", "listing.py:_walk", ", onerror=_stop", "",
     f"{DOOR}::test_a_source_that_cannot_be_listed_retires_nobody"),
    ("errors of the system keep their traceback", "as_kd_error", "if error.errno in (None, errno.EPIPE) else",
     "if True else",
     f"{DOOR}::test_a_build_that_is_refused_a_call_says_so_and_is_finished_by_the_same_command"),
    ("a checkpoint that cannot be read is damaged", "checkpoint.py:_check_digest", "file_digest(path)", "'x'",
     f"{RUN}::test_a_checkpoint_that_cannot_be_read_is_not_called_damaged"),
]  # fmt: skip
