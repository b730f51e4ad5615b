"""The functions and costs of the operations that `bandstand_client.contract` declares."""
