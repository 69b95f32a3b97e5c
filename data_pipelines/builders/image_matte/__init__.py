"""Still people with alpha: Distinctions-646 and Adobe Image Matting, chosen by name lists."""
