"""From an uploaded file on disk to PCM on disk. Nothing here knows HTTP; FFmpeg runs only in the sandboxed child."""
