"""One self-contained HTML page with a model and the engine that runs it: see README.md."""
