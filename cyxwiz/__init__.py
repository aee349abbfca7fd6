"""CyxWiz: a decentralized ML compute platform."""

__version__ = "0.1.0"
