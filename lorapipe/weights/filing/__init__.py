"""From deltas to the tensors of a file: factors settled, rewritten, rounded."""
