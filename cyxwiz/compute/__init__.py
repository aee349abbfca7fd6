"""Running work on this machine. Nothing here is imported by central: torch and numpy load lazily, in the child."""
