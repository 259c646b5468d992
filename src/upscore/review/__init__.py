"""What a trained network says of images that people look at next: which labels are doubtful, and which images to label.

``doubt`` and ``regions`` compare one mask with one prediction, as arrays; ``border_bias`` measures how far borders lie from predicted
ones. ``label_review`` does so for a dataset in one pass. ``uncertainty`` and ``diversity`` choose among images without masks, and
``next_images`` does so for files. ``review_files`` writes both for the tools that people label with.
"""
