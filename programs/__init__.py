"""The on-chain programs: C sources, and the build that turns them into what the Solana loader takes."""
