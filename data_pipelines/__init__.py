"""Data preparation and input pipelines: the way of a frame from an owner's archive to a batch.

It walks through the rooms in this order, and each imports only what comes before it:

    archives    what owners ship: found, checked, decoded
    synthetic   the archive that needs no owner
    builders    archive → TFDS records, by worker processes
    records     any frame of any prepared clip by its number
    augment     what happens to pixels
    sampling    a sample's number → its clip, frames and shape, and how it is augmented
    pipelines   number → plan (tf.data) → pixels (worker processes or threads) → batch
    tools       for people: check, prepare, preview, bench, testset
"""
