"""The documentation that a node serves of itself: pages in Markdown, tables from the code, HTML made here."""
