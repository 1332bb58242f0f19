"""Stores: bytes before names, damage that is seen, shards that others read and that stay apart."""

LOCAL, CONTRACT = "tests/cache/stores/test_local.py", "tests/cache/stores/test_contract.py::TestLocalStore"
FORMATS, SHARDS = "tests/cache/stores/test_target_formats.py", "tests/cache/stores/test_zarr_shards.py"
TARS, ZARR = "tests/cache/stores/test_sample_tars.py", "tests/cache/stores/test_zarr_format.py"
THROUGH_OTHERS = "test_every_row_comes_back_through_us_and_through_others"
APART = "test_two_passes_over_one_block_and_view_do_not_touch_each_other"

MUTANTS = [
    # ---- the local store
    ("a name reaches the disk before its bytes", "local.py:_write_file", "os.fsync(fd)", "pass",
     f"{LOCAL}::test_bytes_reach_the_disk_before_the_name_does"),
    ("a replaced file is read from its old map", "LocalStore.open_map",
     "kept[0] == (stat.st_ino, stat.st_size)", "True",
     f"{CONTRACT}::test_an_object_replaced_by_another_process_reads_anew"),
    ("what a kill left counts as an object", "LocalStore.list", " if not _LITTER.match(path.name)", "",
     f"{LOCAL}::test_what_a_kill_leaves_is_swept_and_nothing_else"),
    ("sweeping removes hidden files of others", "_LITTER", r'r"^\.kdtmp-\d+-\d+-"', r'r"^\."',
     f"{LOCAL}::test_what_a_kill_leaves_is_swept_and_nothing_else"),
    ("a range beyond an object is cut short", "LocalStore.get",
     "if offset < 0 or num_bytes < 0 or offset + num_bytes > len(view):", "if offset < 0 or num_bytes < 0:",
     f"{CONTRACT}::test_a_range_that_is_not_there_is_an_error_that_names_the_object"),
    # ---- zarr
    ("the checksum of a shard's index is not compared", "_read_index", "if stored != computed:", "if False:",
     f"{SHARDS}::TestDamage::test_every_flipped_bit_of_the_index_is_found"),
    ("an index may point beyond its shard", "ShardRows._check_slots", "if not good.all():",
     "if not good.any():", f"{SHARDS}::TestDamage::test_an_index_that_points_astray_is_refused"),
    ("absent rows are the slots of zeros", "ABSENT", "2**64 - 1", "0",
     f"{SHARDS}::test_a_row_that_is_not_there_is_an_error_not_zeros"),
    ("view and block of a shard change places", "zarr_format.py:shard_name",
     "str(shard.view), str(shard.block)", "str(shard.block), str(shard.view)",
     f"{FORMATS}::TestZarr::{THROUGH_OTHERS}"),
    ("an array forgets the views that it had", "describe_array", "max(num_views, described",
     "min(num_views, described",
     f"{ZARR}::test_describing_again_or_smaller_writes_nothing"),
    ("rows of one size are stored under every size", "rows_by_size", "t if k == key else None", "t",
     f"{FORMATS}::TestWebdataset {FORMATS}::TestZarr"),
    # ---- tars
    ("passes of a teacher write one tar", "webdataset_format.py:tar_name", "-{shard.pass_id}.tar", ".tar",
     f"{FORMATS}::TestWebdataset::{APART}"),
    ("views of a block write one tar", "webdataset_format.py:tar_name", "-v{shard.view:03d}", "-v000",
     f"{FORMATS}::TestWebdataset::test_views_and_blocks_do_not_touch_each_other "
     f"{FORMATS}::TestWebdataset::{THROUGH_OTHERS}"),
    ("members of a tar are numbered within their block", "webdataset_format.py:_members",
     "shard.block * layout.shard_samples + row", "row", f"{FORMATS}::TestWebdataset::{THROUGH_OTHERS}"),
    ("members of samples are numbered within their block", "sample_tars.py:_members",
     "enumerate(entries, first_index)", "enumerate(entries)",
     f"{TARS}::test_plain_webdataset_reads_the_samples_back"),
    ("an invalid sample can be read", "SampleBlock.require_valid", "if not self.valid[row]:", "if False:",
     f"{TARS}::test_an_invalid_sample_keeps_its_place_and_says_so_when_read"),
    ("an index may name bytes beyond its tar", "SampleBlock._spans", "if spans.size and",
     "if not spans.size and",
     f"{TARS}::test_a_truncated_tar_is_an_error_that_names_it"),
    ("members of tars are not aligned", "pack_tar", "-len(buffer) % BLOCK", "0",
     f"{TARS}::test_tar_members_start_at_multiples_of_512_and_read_back"),
    ("the suffix of an image follows nothing", "image_suffix", "if image.startswith(magic):", "if image:",
     f"{TARS}::test_the_suffix_follows_the_bytes_not_the_file_name"),
]  # fmt: skip
