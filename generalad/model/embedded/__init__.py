"""The weights of the embedded backbone and what describes them."""
