"""Clean data: turns what the user names into train and held-out rows with the model's labels."""
