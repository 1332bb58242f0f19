"""Files of weights: where they are looked for, fetched, read, and taken out of their wrappers."""
