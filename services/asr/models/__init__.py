"""Which recognition models there are, where their files come from, and which of them are loaded."""
