"""Model files, text files, and how a file is written."""
