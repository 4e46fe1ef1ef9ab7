"""A value → text: each reporter takes a value and an output, and nothing else."""
