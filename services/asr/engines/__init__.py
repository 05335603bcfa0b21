"""The engines of the recognition service."""

EMBEDDED_ID = "moonshine-tiny-en"
"""The model that comes with the software."""
