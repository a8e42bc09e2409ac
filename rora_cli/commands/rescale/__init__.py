"""``rora rescale``: equation 12 on a trained adapter, without training; ``run`` has the command itself."""
