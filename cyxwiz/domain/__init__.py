"""The vocabulary of CyxWiz: values, states, events and errors. Standard library only."""
