"""One thin script a DVC stage: read the settings, call the library, write the outputs."""
