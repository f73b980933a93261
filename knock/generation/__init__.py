"""What is asked of a model and what it gives: requests, stop strings, texts, streams, scores."""
