"""Training on several nodes: how members meet, and what they exchange. For the child; torch is imported at need."""
