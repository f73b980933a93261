"""Shared by the commands: options, terminal output, progress and signals."""
