"""Histories of jobs and their money on a real chain, with all faults that a seed draws, and what must hold after."""
