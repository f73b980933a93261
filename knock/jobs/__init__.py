"""Generating many texts: prompt files, rows, resumable output files, Parquet."""
