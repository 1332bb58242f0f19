"""Files: of a stranger, opened and unpacked within bounds that are known before memory is taken; sealed, so
that a flipped bit is found; refused by the operating system, in words."""
