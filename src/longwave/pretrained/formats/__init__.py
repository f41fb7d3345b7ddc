"""Published formats, each a two-way table of names and a translation of config.json; none knows a model."""
