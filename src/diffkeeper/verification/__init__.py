"""Hold the replayed last state of a recording against the live files, and read back what differs."""
