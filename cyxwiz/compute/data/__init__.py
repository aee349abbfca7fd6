"""A job's data: `fetch` brings them to the node (in the node's process), `load` reads them (in the job's child)."""
