"""Train knock models with PyTorch: a differentiable twin of the model, the trainer and the evaluation."""

import os

# How long PyTorch's threads spin when they wait for each other, before they sleep; its OpenMP library reads this once,
# when PyTorch is imported. By default they spin for milliseconds, which takes the core from whoever shares it, and so
# from each other. Not at all would be worse where nobody does: at knock's sizes, waking a thread takes longer than most
# of the work it is woken for. What the user has set stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # GNU's library; some 100 microseconds
    os.environ.setdefault("KMP_BLOCKTIME", "1")  # LLVM's and Intel's; milliseconds
