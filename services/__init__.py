"""The programs of the house: asr, diarize, summarize, edge, and what they share."""
