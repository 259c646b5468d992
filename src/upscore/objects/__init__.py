"""Single objects of an image, as values: where each is, its outline, and how they are written in COCO's format.

``detected`` holds an object and finds the connected components of a label map, ``suppression`` removes objects that overlap a better
one; ``polygons`` and ``rle`` describe masks exactly; ``coco_file`` writes the objects of many images into one file.
"""
