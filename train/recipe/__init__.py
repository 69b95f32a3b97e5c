"""What a run is: the recipe with its checks, the published ones, and the options that change no number."""
