"""Clean data: from what the user names to rows whose labels are the model's, train and held-out apart."""
