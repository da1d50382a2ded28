"""WebSocket side, one file per exchange, over the shared session in ``session.py``."""
