"""Weight files and the folders of runs, read into the variables of the network and written from them."""
