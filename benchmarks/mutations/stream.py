"""The cached stream: the epoch of a batch, and the buffers that windows of stored maps are copied into. Each
change would leave schedules standing still, or show a student other targets than its pixels have."""

EPOCHS = "tests/trainer/stream/test_stored_epochs.py"
COUNTED = f"{EPOCHS}::test_the_epoch_of_a_batch_is_how_often_its_first_sample_was_seen_before"
RANKS = f"{EPOCHS}::test_ranks_and_resumed_runs_are_in_the_epoch_of_their_own_first_position"
SCHEDULES = f"{EPOCHS}::test_schedules_of_a_loss_follow_the_epochs_of_the_cache"
RING = "tests/trainer/stream/test_window_ring.py"
EPOCH = "self.layout.positions(step).start // self.num_samples"

MUTANTS = [
    # ---- epochs
    ("the epoch of a cached batch is always 0", "StoredStream._through_pipeline", EPOCH, "0", SCHEDULES),
    ("the epoch of a cached batch is that of its last sample", "StoredStream._through_pipeline",
     EPOCH, "(self.layout.positions(step).stop - 1) // self.num_samples", COUNTED),
    ("an epoch of a cache is as long as if no sample were invalid", "StoredStream._through_pipeline",
     "// self.num_samples", "// self._cache.num_samples", COUNTED),
    ("a resumed run on a cache counts its epochs from 0 again", "StoredStream._through_pipeline",
     EPOCH, "self.layout.positions(step - start_micro_step).start // self.num_samples", RANKS),
    ("epochs of a cache count micro steps of one rank alone", "StoredStream._through_pipeline",
     EPOCH, "step * self.layout.micro_batch // self.num_samples", RANKS),
    ("invalid samples count as samples of a cached epoch", "StoredStream.num_samples",
     "self._cache.num_samples - len(self._invalid)", "self._cache.num_samples", COUNTED),
    ("the epoch of a fresh batch is always 0", "FreshStream.run", EPOCH, "0", COUNTED),
    ("the losses are told that it is always epoch 0", "Stepper._inputs", "epoch=batch.epoch", "epoch=0",
     SCHEDULES),
    ("a step reports epoch 0", "Stepper.step", "epoch if micro else drawn.batch.epoch", "0", SCHEDULES),
    # ---- the ring of windows
    ("the ring of window buffers is one shorter", "PartReader.__init__",
     "range(PREFETCH + 2)", "range(PREFETCH + 1)", RING),
    ("the ring of window buffers is a single buffer", "PartReader.__init__",
     "range(PREFETCH + 2)", "range(1)", RING),
    ("the pipeline prepares more batches ahead than the ring has buffers for",
     "StoredStream._through_pipeline", "prefetch=PREFETCH,", "prefetch=PREFETCH + 1,", RING),
    ("two micro steps in a row share a window buffer", "PartReader.read",
     "micro_step % len(self._ring)", "micro_step // 2 % len(self._ring)", RING),
    ("every row of a batch has the same window buffer", "PartReader.read", "[place]", "[0]", RING),
    ("the ring of window buffers grows with every step", "PartReader.read",
     "        slot: np.ndarray = self._ring[micro_step % len(self._ring)][place]\n",
     "        slot: np.ndarray = np.empty_like(self._ring[0][place])\n", RING),
    ("windows are cut at the corner of the image", "PartReader.read",
     "cells(row.window, self._stride)", "cells(row.window._replace(y=0, x=0), self._stride)",
     "tests/trainer/stream/test_alignment.py"),
]  # fmt: skip
