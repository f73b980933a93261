"""The command line: one module or package per command, imported only when the command runs."""
