"""What every long-lived part stands on: the clock, owned tasks, the service contract, logs."""
