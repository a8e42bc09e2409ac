"""What a run will need: memory, tokens, time, disk; from headers and shapes, before the weights are read."""
