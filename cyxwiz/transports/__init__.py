"""Doors: each decodes, authenticates, calls one service method and encodes."""
