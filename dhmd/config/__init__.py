"""Parse YAML into typed, frozen dataclasses; every error is one sentence."""
