"""What a text must match: patterns, lengths, banned strings and stop strings, compiled to one automaton."""
