"""The diarization service: who spoke when."""
