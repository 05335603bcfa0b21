"""How the house is, on one screen: who is asked (asking), what their metrics say (figures), how it looks (screen)."""
