"""A black box flight recorder for the filesystem."""
