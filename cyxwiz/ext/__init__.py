"""What this project adds to the wire contract."""
