"""Deterministic simulation: central, its nodes and the links between them on virtual time, with faults from one seed.

`run.simulate(seed)` plays one history and checks the promises of the platform after every committed write; the same
seed gives the same history, in every process. It runs the platform's own code and replaces only what the machine would
decide: time, delivery, crashes, full disks and the outcome of a run. It refuses threads, sockets and real time.
"""
