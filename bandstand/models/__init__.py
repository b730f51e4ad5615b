"""What a model is (cards), where it comes from (sources) and where it lies (the repository)."""
