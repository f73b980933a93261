"""The loops over operations: forward pass, decoding, batches."""
