"""Many runs: grids of them, how far each is, what they scored, what differs, what can be removed."""
