"""Live sessions: what is said (dialects), what waits (audio), who may do what (session), and the wire (websocket)."""
