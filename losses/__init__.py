"""Loss terms, the expression that names them, and the plan of a run."""
