"""Training a student: from options to a finished run folder."""
