"""The servers that a load test can ask: Bandstand over HTTP, its models on Triton over gRPC."""
