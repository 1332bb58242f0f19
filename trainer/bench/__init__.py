"""Many runs: grids of them, how far each is, what they scored, what can be removed."""
