"""NVIDIA's streaming Sortformer by way of NeMo: of these modules only `network` imports torch and NeMo."""
