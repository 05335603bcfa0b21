"""Limits and credits: what a request may cost, held while it runs and charged once. Who asks is in `accounts`."""
