"""Train knock models with PyTorch: a differentiable twin of the model, the trainer and the evaluation."""
