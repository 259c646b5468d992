"""Where in an image a class is, by a classifier that was trained on whole images alone.

``classifiers`` opens a classifier and the names of its classes, ``localizer`` makes it convolutional and reads boxes from its heat
maps, ``truth`` reads true boxes, ``localize_files`` labels files and writes what was found.
"""
