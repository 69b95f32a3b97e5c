"""Clean plates, the view without the person: opened, made of the video itself, and aligned with each frame."""
