"""Front ends: each defined once, run by training, export and every runtime."""
