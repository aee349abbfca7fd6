"""The seams: small Protocols. A Protocol's docstring is the contract that its implementers are tested against."""
