"""Coding agents, headless, against a node: what they send is long, so the model is one made for it."""
