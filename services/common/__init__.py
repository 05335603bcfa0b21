"""What every program shares: settings, logs, errors, the gRPC server's life, channels and the audio format."""
