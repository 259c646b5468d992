"""Writers of datasets, one file and one record for each layout, the mirror of :mod:`upscore.data.readers`."""
