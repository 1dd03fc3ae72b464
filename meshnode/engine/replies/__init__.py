"""What a model wrote, read: raw reply text in; text, reasoning and tool calls out. Pure."""
