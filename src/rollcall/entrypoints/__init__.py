"""The entry points, one file for each."""
