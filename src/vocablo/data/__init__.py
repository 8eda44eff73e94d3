"""From files to batches: readers, the token store, training order, the embedded grammar."""
