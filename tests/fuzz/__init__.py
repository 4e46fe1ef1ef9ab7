"""Feed bytes of a stranger to everything that reads a trace."""
