"""Find what is wrong with a dataset, show it on its images, and write a corrected copy.

One pass reads every image and mask once (:mod:`upscore.doctor.scan`); each check then looks at the records of that pass and nothing else.
"""
