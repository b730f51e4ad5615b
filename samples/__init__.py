"""Three short recordings of our own, and the scores and script they are made with."""
