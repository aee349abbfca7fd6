"""A Solana cluster of one in this process: LiteSVM, a durable log of its transactions, JSON-RPC and WebSocket.

journal: the log file; genesis: keys, mint, programs; timeline: slots and blockhashes by the clock; vm: execution;
history: what landed; chain: admission and group commit; methods, jsonrpc, subscriptions, server: the doors.
"""
