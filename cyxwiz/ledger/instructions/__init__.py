"""Instructions of the programs and the accounts they keep, as typed values. Layouts: docs/programs.md."""
