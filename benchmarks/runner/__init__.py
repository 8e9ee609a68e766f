"""The bookkeeping of a run at the size of the paper's: a million records, without a model."""
