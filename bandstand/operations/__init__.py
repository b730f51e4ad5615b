"""How each operation that `bandstand_client.contract` declares is run, and what it costs."""
