"""From YAML text to typed, frozen dataclasses, with one sentence for each mistake."""
