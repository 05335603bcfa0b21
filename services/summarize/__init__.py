"""The summary service: a transcript in, a shorter text out, over gRPC."""
