"""Figures beside their floors: `make bench`. Each is a ratio, or a span against its bound, taken in one run."""
