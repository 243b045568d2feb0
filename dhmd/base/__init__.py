"""What every part uses and what carries no numbers: errors, whole-or-nothing writes, progress."""
