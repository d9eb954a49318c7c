"""From ops to loops: one file for each kind of op."""
