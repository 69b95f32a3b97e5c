"""Still backgrounds: any folder of pictures without people."""
