"""Generated from proto/cyxwiz/protocol: the public wire contract."""
