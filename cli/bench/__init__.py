"""Commands that look at several runs at once."""
