"""Train knock models with PyTorch: a differentiable twin of the model, the trainer and the evaluation."""

import os

# Bound the time that PyTorch's threads spin before they sleep. OpenMP reads these variables once, when PyTorch is
# imported. By default the threads spin for milliseconds, which on a shared machine keeps the core from the threads they
# wait for. Not spinning at all would be slower on an idle machine: in models as small as knock's, waking a thread takes
# longer than most operations. Variables that the user has set take precedence.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # GNU OpenMP: about 100 microseconds
    os.environ.setdefault("KMP_BLOCKTIME", "1")  # LLVM and Intel OpenMP: milliseconds
