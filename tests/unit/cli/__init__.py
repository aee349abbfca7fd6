"""The command line against a server in the same process."""
