"""One file a verb, with the verb's own name; those that only leave a request share `ask`."""
