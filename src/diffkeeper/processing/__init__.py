"""From journal to store: decode, sort, resolve, write; nothing here runs on the recorded command's path."""
