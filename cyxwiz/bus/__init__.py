"""Fan-out of hints: within one central (`local`); between several, the same port over another carrier."""
