"""Loops over the operations: forward pass, decoding, scoring, batches."""
