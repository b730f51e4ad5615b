"""The servers of a load test: Bandstand over HTTP, its models on Triton over gRPC."""
