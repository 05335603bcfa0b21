"""A summary made of the transcript's own sentences: LexRank chooses what matters, rules find who committed to what."""
