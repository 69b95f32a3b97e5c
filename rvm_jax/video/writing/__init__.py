"""What writing needs beside an encoder of video: tracks of sound, encoding of pictures."""
