"""VideoMatte240K: clips of people cut out before green screens, with alpha."""
