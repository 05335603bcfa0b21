"""The HTTP edge: the public API in front of the gRPC services. The only program that knows HTTP."""
