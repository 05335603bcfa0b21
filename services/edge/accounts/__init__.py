"""Who asks: accounts, and the keys that open them. What they may do and what it costs is in `metering`."""
