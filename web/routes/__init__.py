"""The addresses: pages, and the JSON that says the same."""
