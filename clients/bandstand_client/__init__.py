"""HTTP and gRPC clients, sync and async; they depend on nothing else of Bandstand."""
