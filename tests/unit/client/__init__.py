"""The SDK against a server in the same process."""
