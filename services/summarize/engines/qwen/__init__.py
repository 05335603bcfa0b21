"""Qwen2.5-1.5B-Instruct on transformers' continuous batching.

Only `loading` and `batching` import torch and transformers, and nobody imports them but who loads the model.
"""
