"""The disk layer: events, content and checkpoints of a trace, as bytes in files and back."""
