"""Background videos of Deep Video Matting: clips without people."""
