"""What writing needs: targets and their writers, live outputs, tracks of sound, encoding of pictures."""
