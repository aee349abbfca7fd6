"""What touches the chain: the programs, their instructions and accounts. solders is imported here only."""
