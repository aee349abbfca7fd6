"""Generated from proto/cyxwiz/ext/v1."""
