"""Use cases. Doors call these; nothing here knows a transport."""
