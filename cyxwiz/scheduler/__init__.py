"""Deciding which node gets which job: pure policy here, the loops that act in `loops`."""
