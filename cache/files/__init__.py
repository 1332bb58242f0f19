"""Files that a stranger wrote: opened, parsed and unpacked within bounds that are known before memory is
taken."""
