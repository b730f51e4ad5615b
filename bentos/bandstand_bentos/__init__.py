"""The BentoML services: gateway, preprocessor and the runner processes."""
