"""The engines of the diarization service."""
