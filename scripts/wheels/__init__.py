"""Wheels for every system, built on one machine: build.py is the program."""
