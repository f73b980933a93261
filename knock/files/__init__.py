"""Model files, text files and atomic writes."""
