"""What the commands share: options, the terminal, progress, signals."""
