"""The operations of a model, a kernel each."""
