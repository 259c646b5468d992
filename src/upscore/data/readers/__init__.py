"""The readers of datasets, one file and one :class:`~upscore.data.reader.Reader` record each; independent of one another."""
