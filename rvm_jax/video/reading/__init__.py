"""What reading needs beside a demuxer: times, metadata, decoding of pictures that Pillow alone cannot."""
