"""Many texts: prompt files, rows, resumable output, Parquet."""
