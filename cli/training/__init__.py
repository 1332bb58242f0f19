"""The commands about runs: options of training, what a run prints, judging, chains, methods."""
