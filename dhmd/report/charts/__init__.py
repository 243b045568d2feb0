"""The pictures of a report, a file a question; each takes `Inputs` and gives `Picture`s."""
