"""Pure functions of tensors: singular values, strength, alignment, thresholds, rescaling. No files, no models."""
