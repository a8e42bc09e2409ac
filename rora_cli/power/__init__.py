"""The power of a search: backdoors planted in copies of the suspect, and which of them the same search finds."""
