"""Rows: the truth of central, on SQLite (one central), PostgreSQL (several) or in memory (simulation).

`engine.open_store` gives a `ports.store.Store`; `memory.MemoryStore` is the same statements over a database that is
gone afterwards. Promised: a unit of work is all there or not at all, and durable when `write` returns. Refused: a file
that is no database of CyxWiz, one written by a newer program, and a second process on the same SQLite file.
"""
