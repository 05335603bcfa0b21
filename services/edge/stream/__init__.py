"""Live sessions: what is said (dialects) and by whom (speakers, naming), what waits, who may do what, and the wire."""
