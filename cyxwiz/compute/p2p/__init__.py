"""The node as its clients reach it: sessions, live jobs, and the data that clients stream."""
