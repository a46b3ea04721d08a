"""Real text corpora that need no download, and a tokeniser for people's own text."""
