"""The engines of the recognition service."""
