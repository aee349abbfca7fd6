"""The sandbox of a job's child process: what holds it, how it is put there, and what of it works on this machine.

`Sandbox` (in `sandbox`) starts a command in a cell; `confine` runs inside, first thing; `slot` is the folder that the
two sides share; `doctor` tries what holds. The page docs/guides/sandbox.md says what each mode protects from.
"""
