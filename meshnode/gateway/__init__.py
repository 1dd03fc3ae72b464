"""Who a client of this node's API is, and what it may do."""
