"""Connections to peers: the libp2p door and its in-memory twin."""
