"""The operations of a model, one kernel each."""
