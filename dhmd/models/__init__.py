"""DHMD: encoders, decoupling, graph distillation, dictionary matching, fusion."""
