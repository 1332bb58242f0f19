"""Data of one's own: a class map beside the labels, a source class named on the command line."""
