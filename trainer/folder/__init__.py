"""The folder of a run: its name, what lies in it, the options that are kept in it."""
