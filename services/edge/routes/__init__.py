"""The public API's paths, one module each."""
