"""Training in four stages, exactly repeatable, on any number of devices."""
