"""The BentoML services: gateway, preprocessor and one batched runner a model."""
