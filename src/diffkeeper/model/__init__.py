"""Pure values: observations, events, the tree, replay, positions. Nothing here does input or output."""
