"""The training room: from raw text and labelled rows to a model folder. Needs the extra `train`."""
