"""What nodes owe each other: prices, counts, and the signed receipts that are kept."""
