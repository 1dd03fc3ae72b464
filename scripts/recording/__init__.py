"""What records the golden files of chat templates: the conversations, llama-server, and the table of differences."""
